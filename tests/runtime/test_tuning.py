"""`pleinair tune`: what it measures and writes, who follows that, and when nobody does."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import loras
from openvino_core import Call
from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.cli import candidates, main, tune
from pleinair.runtime.cli.candidates import Candidate
from pleinair.runtime.cli.contest import Contest
from pleinair.runtime.cli.cost import Cost
from pleinair.runtime.cli.trial import Trial
from pleinair.runtime.engines import cores
from pleinair.runtime.engines.choice import Setup, choose
from pleinair.runtime.errors import EngineError, SettingError
from pleinair.runtime.model.bundle import Bundle
from pleinair.runtime.speed import tuning
from pleinair.runtime.speed.tuning import Tuning

DEFAULT, ONE, TWO = (Candidate("exact", Setup("openvino", n)) for n in (None, 1, 2))
TUNED = Tuning("balanced", {"native": Setup("openvino", 1), "balanced": Setup("openvino", 2)})


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's settings, empty, on a machine that has said nothing yet."""
    folder = tmp_path / "settings"
    monkeypatch.setattr(tuning, "settings_folder", lambda: folder)
    return folder


@pytest.fixture
def bundle(exported_openvino: Path, tmp_path: Path) -> Bundle:
    """A folder of one's own, of links, with graphs under the names of the 8-bit ones."""
    folder = shutil.copytree(exported_openvino, tmp_path / "model", copy_function=os.link)
    for part in ("unet", "vae_decoder"):
        shutil.copytree(folder / part, folder / f"{part}_int8", copy_function=os.link)
    return Bundle.open(folder)


def changed(file: Path, *path: Any, to: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    file.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def threads(
    core_calls: list[Call], usual_threads: None
) -> Callable[[StableDiffusionPipeline], int | None]:
    """The threads that a pipeline's engine asks OpenVINO for; None leaves them to it."""

    def asked(pipe: StableDiffusionPipeline) -> int | None:
        file = pipe.bundle.graph("vae_decoder", "openvino")
        pipe.engine.compile(file, {"latent_sample": (1, 4, 4, 4)})
        return core_calls[-1].config.get("INFERENCE_NUM_THREADS")

    return asked


def test_what_is_written_is_followed(bundle: Bundle, threads: Any) -> None:
    before = sorted(bundle.path.rglob("*"))
    assert TUNED.write(bundle) == tuning.file_for(bundle)
    assert sorted(bundle.path.rglob("*")) == before
    found = Tuning.of(bundle)
    assert (found.profile, found.setups) == (TUNED.profile, TUNED.setups)
    opened = StableDiffusionPipeline.from_pretrained
    assert threads(opened(bundle.path)) == 1
    assert threads(opened(bundle.path, profile="auto")) == 2
    assert opened(bundle.path, profile="auto").profile.name == "balanced"
    # The profile is native all the same, where nobody asks for another, and what is said wins.
    assert opened(bundle.path).profile.name == "native"
    assert threads(opened(bundle.path, threads=3)) == 3
    assert threads(opened(bundle.path, engine="openvino")) is None


def test_untuned_auto_is_native(bundle: Bundle, threads: Any) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(bundle.path, profile="auto")
    assert pipe.profile.name == "native"
    assert threads(pipe) is None


def test_lora_files_change_nothing_of_it(
    bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path, threads: Any
) -> None:
    from diffusers import UNet2DConditionModel

    TUNED.write(bundle)
    unet = UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet")
    file = loras.diffusers(tmp_path / "lora.safetensors", loras.factors(unet, 1))
    pipe = StableDiffusionPipeline.from_pretrained(bundle.path, profile="auto", loras=[file])
    assert (pipe.profile.name, threads(pipe)) == ("balanced", 2)


def test_on_other_devices_nothing_is_followed(bundle: Bundle) -> None:
    tuned = Setup("onnxruntime", 1)
    with pytest.raises(EngineError, match="no device 'npu9'"):
        choose(bundle.graphs, device="npu9", tuned=tuned)
    assert choose(bundle.graphs, "openvino", "cpu", tuned=tuned).name == "openvino"
    with pytest.raises(EngineError, match="no ONNX graphs"):
        choose(bundle.graphs, tuned=tuned)


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("machine", "cpu"), "Another CPU"),
        (("machine", "cores"), 1000),
        (("engines", "openvino"), "1999.1"),
        (("engines",), {"openvino": "1999.1"}),
        (("model",), "0123456789ab"),
        (("machine",), None),
    ],
    ids=str,
)
def test_another_machine_s_is_left_aside_and_that_is_said_once(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, path: tuple[str, ...], to: Any
) -> None:
    changed(TUNED.write(bundle), "tunings", 0, "for", *path, to=to)
    with caplog.at_level(logging.INFO, "pleinair"):
        for _ in range(2):
            assert Tuning.of(bundle) == Tuning()
    [line] = [record.getMessage() for record in caplog.records]
    assert "made on another machine, or for other versions" in line
    assert line.endswith(f"make it anew: pleinair tune {bundle.path}")


def test_a_model_that_changed_is_another(bundle: Bundle) -> None:
    TUNED.write(bundle)
    graph = bundle.path / "unet" / "openvino_model.xml"
    longer = graph.read_text(encoding="utf-8") + "\n"
    graph.unlink()  # it is a link
    graph.write_text(longer, encoding="utf-8")
    (bundle.path / "pleinair.json").unlink()
    assert Tuning.of(bundle) == Tuning()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"tunings": 1}', '{"tunings": [1, {}]}', "[" * 10**5]
)
def test_what_is_no_tuning_does_no_harm(
    bundle: Bundle, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tuning.file_for(bundle)
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    with caplog.at_level(logging.INFO, "pleinair"):
        assert Tuning.of(bundle) == Tuning()
    assert [record.getMessage().startswith(str(file)) for record in caplog.records] == [True]
    assert TUNED.write(bundle) == file
    assert Tuning.of(bundle).setups == TUNED.setups


@pytest.mark.parametrize(("name", "to"), [("profiles", []), ("profile", "quick"), ("profile", {})])
def test_a_mangled_one_is_left_aside(bundle: Bundle, name: str, to: Any) -> None:
    changed(TUNED.write(bundle), "tunings", 0, name, to=to)
    assert Tuning.of(bundle) == Tuning()


@pytest.mark.parametrize("setup", [{"engine": "abacus"}, {"threads": 0}, {"threads": "two"}])
def test_a_setup_that_is_none(bundle: Bundle, setup: dict[str, Any]) -> None:
    own = {"engine": "openvino", "threads": None, **setup}
    changed(TUNED.write(bundle), "tunings", 0, "profiles", "native", to=own)
    assert Tuning.of(bundle) == Tuning()


def test_machines_that_share_a_folder_keep_one_each(bundle: Bundle) -> None:
    file = TUNED.write(bundle)
    changed(file, "tunings", 0, "for", "machine", "cpu", to="Another CPU")
    Tuning("exact", {"exact": Setup("openvino", 2)}).write(bundle)
    again = Tuning("exact", {"exact": Setup("openvino", 1)})
    again.write(bundle)
    assert Tuning.of(bundle).setups == again.setups
    known = json.loads(file.read_text(encoding="utf-8"))["tunings"]
    assert [one["for"]["machine"]["cpu"] == "Another CPU" for one in known] == [True, False]


def test_it_stands_in_the_user_s_settings(bundle: Bundle, own: Path) -> None:
    file = TUNED.write(bundle)
    assert file.parent == own / "tuning"
    assert file.name.startswith("model-")


def test_one_beside_the_model_from_earlier_versions_is_followed(bundle: Bundle) -> None:
    TUNED.write(bundle).rename(bundle.path / "tuning.json")
    assert Tuning.of(bundle).setups == TUNED.setups
    Tuning().write(bundle)  # a newer one is asked first
    assert Tuning.of(bundle) == Tuning()


def test_a_disk_that_refuses_leaves_what_was_there(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = TUNED.write(bundle).read_bytes()

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(SettingError, match=r"tuning.*\.json: cannot be written: No space left"):
        Tuning().write(bundle)
    file = tuning.file_for(bundle)
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == before


def contest(*measured: list[float]) -> Contest:
    """Of candidates that take so long in their rounds."""
    given = dict(zip((DEFAULT, ONE, TWO), map(iter, measured), strict=False))
    race = Contest(list(given), len(measured[0]))
    turns: list[None] = []
    race.run(lambda one, best: next(given[one]), lambda: turns.append(None))
    assert len(turns) == race.rounds * len(given)
    return race


def test_faster_in_every_round_than_the_default_in_any_wins() -> None:
    race = contest([1.0, 1.1, 1.2], [0.9, 0.95, 0.99], [0.8, 0.85, 0.98])
    assert race.best == TWO
    assert str(race.ratio(TWO)) == "1.25 (1.22 to 1.29)"


def test_a_tie_within_the_spread_is_the_default_s() -> None:
    assert contest([1.0, 1.1, 1.2], [0.9, 0.95, 1.01], [1.0, 0.8, 0.8]).best == DEFAULT


def test_the_slow_ones_leave_after_a_round_and_the_default_never() -> None:
    race = contest([1.0, 1.0, 1.0], [9.0], [0.3, 0.3, 0.3])
    assert race.out == {ONE: "too slow in the first round"}
    assert race.best == TWO


def test_alone_the_default_is_not_measured_again() -> None:
    race = contest([1.0, 1.0, 1.0], [9.0], [9.0])
    assert race.seconds[DEFAULT] == [1.0]
    assert race.best == DEFAULT


def test_a_candidate_that_fails_is_out_but_not_the_default() -> None:
    race = Contest([DEFAULT, ONE], 2)

    def failing(which: Candidate) -> Any:
        def measure(one: Candidate, best: float) -> float:
            if one == which:
                raise EngineError("out of memory")
            return 1.0

        return measure

    race.run(failing(ONE), lambda: None)
    assert (race.out, race.best) == ({ONE: "out of memory"}, DEFAULT)
    with pytest.raises(EngineError, match="out of memory"):
        Contest([DEFAULT, ONE], 2).run(failing(DEFAULT), lambda: None)


def cost(**figures: tuple[list[float], int]) -> Cost:
    """Profile -> seconds, and by how much its pictures differ from the exact ones."""
    found = Cost()
    for name, (seconds, off) in figures.items():
        for one in seconds:
            found.add(name, one, np.full((8, 8, 3), 100 + off, np.uint8))
    return found


@pytest.mark.parametrize(
    ("figures", "profile"),
    [
        ({"balanced": ([2.0, 3.0], 5), "fast": ([1.0, 1.5], 6)}, "fast"),
        ({"balanced": ([2.0, 3.0], 5), "fast": ([1.0, 1.5], 60)}, "balanced"),  # 12 dB
        ({"balanced": ([2.0, 4.5], 5), "fast": ([1.0, 1.5], 60)}, "native"),  # not always faster
        ({"balanced": ([2.0, 3.0], 0)}, "balanced"),  # the same picture
    ],
)
def test_the_fastest_profile_that_is_like_enough(figures: Any, profile: str) -> None:
    assert cost(exact=([4.0, 5.0], 0), **figures).recommended(28.0) == profile


def test_only_what_the_folder_holds(
    bundle: Bundle, exported_openvino: Path, exported_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "physical_cores", lambda: 6)
    monkeypatch.setattr(cores, "hardware_threads", lambda: 12)
    found = candidates.candidates(families.of(bundle))
    assert list(found) == ["exact", "native", "balanced", "fast"]
    assert [one.setup.threads for one in found["fast"]] == [None, 12, 6, 3, 1]
    assert {one.setup.engine for one in found["exact"]} == {"openvino"}
    plain = candidates.candidates(families.open_model(exported_openvino))
    assert list(plain) == ["exact", "native"]
    onnx = candidates.candidates(families.open_model(exported_onnx))["exact"]
    assert [one.setup.engine for one in onnx[::5]] == ["openvino", "onnxruntime"]
    assert onnx[0].setup == Setup("openvino")


def test_cores_for_performance_are_tried_alone(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop of 4 cores with two threads each, and 8 small ones."""
    for name, count in {
        "physical_cores": 12,
        "hardware_threads": 16,
        "performance_cores": 4,
    }.items():
        monkeypatch.setattr(cores, name, lambda count=count: count)
    found = candidates.candidates(families.of(bundle))["exact"]
    assert [one.setup.threads for one in found] == [None, 16, 12, 6, 4, 3, 1]


def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which few setups are to be tried: the engine's own choice, and one thread."""
    monkeypatch.setattr(cores, "physical_cores", lambda: 1)
    monkeypatch.setattr(cores, "hardware_threads", lambda: 1)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Measurements without a model, on a processor with bfloat16: one thread is fast, and the
    others' order is kept.
    """
    order: list[str] = []

    def seconds(self: Trial, candidate: Candidate, best: float) -> float:
        order.append(str(candidate))
        return 1.0 if candidate.setup.threads == 1 else 1.4

    def picture(self: Trial, candidate: Candidate, prompt: str, seed: int) -> tuple[float, Any]:
        order.append(f"{candidate}: {prompt} {seed}")
        off = {"exact": 0, "native": 1, "balanced": 5, "fast": 60}[candidate.profile]
        taken = {"exact": 9.0, "native": 5.0, "balanced": 3.0, "fast": 1.0}[candidate.profile]
        return taken, np.full((8, 8, 3), off, np.uint8)

    monkeypatch.setattr(Trial, "seconds_a_step", seconds)
    monkeypatch.setattr(Trial, "picture", picture)
    monkeypatch.setattr(tune, "native_precision", lambda: "bf16")
    one_thread(monkeypatch)
    return order


def test_the_command(
    bundle: Bundle, simulated: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--rounds", "2", "--pictures", "2"]
    assert main(["tune", str(bundle.path), *words]) == 0
    names = ("exact", "native", "balanced", "fast")
    untuned = [f"{name}, openvino, its own threads" for name in names]
    tuned = [f"{name}, openvino, 1 thread" for name in names]
    for i in range(3):  # fast computes what balanced does
        assert simulated[4 * i : 4 * i + 4] == [untuned[i], tuned[i]] * 2
    prompts = ("a red apple 0", "a lighthouse on a cliff in a storm, oil painting 1")
    assert simulated[12:] == [f"{name}: {prompt}" for prompt in prompts for name in tuned]
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == str(tuning.file_for(bundle))
    assert shown[-2] == "profile auto: balanced (the fastest of 28 dB or more)"
    assert any(line.split()[:3] == ["openvino,", "1", "thread"] for line in shown)
    found = Tuning.of(bundle)
    assert found.profile == "balanced"
    assert set(found.setups.values()) == {Setup("openvino", 1)}
    assert found.figures["balanced"]["psnr_db"] == 34.15
    assert found.figures["exact"]["seconds_a_step"] == 1.0


def test_stopped_it_writes_nothing(
    bundle: Bundle,
    simulated: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trial, "picture", stop)
    before = sorted(bundle.path.rglob("*"))
    assert main(["tune", str(bundle.path)]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert sorted(bundle.path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rounds", "0"], "rounds is 0; give 1 or more"),
        (["--pictures", "-1"], "pictures is -1; give 0 or more"),
        (["--prompts", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--size", "63"], "give a multiple of 8"),
    ],
)
def test_mistakes_are_one_line(
    bundle: Bundle, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", str(bundle.path), *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert says in lines[-1]
    assert not tuning.file_for(bundle).exists()


@pytest.mark.slow
def test_for_real_and_then_painted_with(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The 8-bit graphs are the exact ones here: balanced is as like as can be."""
    one_thread(monkeypatch)
    monkeypatch.setattr(Cost, "recommended", lambda self, least: "balanced")
    words = ["--size", "32", "--rounds", "1", "--pictures", "1"]
    assert main(["tune", str(bundle.path), *words]) == 0
    shown = capsys.readouterr().out
    assert "the same" in shown
    assert "exact  " in shown
    written = json.loads(tuning.file_for(bundle).read_text(encoding="utf-8"))
    assert written["tunings"][0]["profiles"]["balanced"]["psnr_db"] is None
    target = tmp_path / "a.png"
    paint = ["--model", str(bundle.path), "--profile", "auto", "--steps", "2", "--W", "32"]
    assert main([*paint, "--H", "32", "--output", str(target)]) == 0
    assert "; profile balanced" in capsys.readouterr().err
    assert json.loads(Image.open(target).text["pleinair"])["profile"] == "balanced"
