"""How the pipeline behaves as a part of another program."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import EngineError, PleinairError, PromptError, SettingError

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK: dict[str, Any] = {
    "num_inference_steps": 3,
    "width": 64,
    "height": 64,
    "scheduler": "ddim",
}


@pytest.fixture(scope="module")
def pipe(exported_openvino: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        exported_openvino, engine="openvino", profile="exact"
    )


def test_output(pipe: StableDiffusionPipeline) -> None:
    output = pipe("boat", seed=4, num_images_per_prompt=2, **QUICK)
    assert [type(image) for image in output.images] == [Image.Image] * 2
    assert output.seeds == [4, 5]
    assert not output.stopped
    timings = output.timings
    assert len(timings.steps) == 2 * 3
    assert min(timings.steps) > 0
    assert timings.total >= timings.load + timings.encode + sum(timings.steps) + timings.decode > 0


def test_output_types_are_one_picture(pipe: StableDiffusionPipeline) -> None:
    picture, pixels, latents = (
        pipe("boat", seed=4, output_type=kind, **QUICK).images[0]
        for kind in ("pil", "np", "latent")
    )
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.float32
    assert 0 <= pixels.min() <= pixels.max() <= 1
    assert np.array_equal((pixels * 255).round().astype(np.uint8), picture)
    assert latents.shape == (1, 4, 8, 8)


def test_each_image_of_a_batch_can_be_painted_alone(pipe: StableDiffusionPipeline) -> None:
    batch = pipe("boat", seed=4, num_images_per_prompt=3, **{**QUICK, "scheduler": "euler_a"})
    for image, seed in zip(batch.images, batch.seeds, strict=True):
        alone = pipe("boat", seed=seed, **{**QUICK, "scheduler": "euler_a"}).images[0]
        assert np.array_equal(image, alone)
    assert not np.array_equal(batch.images[0], batch.images[1])


def test_a_list_of_prompts(pipe: StableDiffusionPipeline) -> None:
    output = pipe(["boat", "apple"], seed=4, num_images_per_prompt=2, **QUICK)
    assert output.seeds == [4, 5, 6, 7]
    assert np.array_equal(output.images[2], pipe("apple", seed=6, **QUICK).images[0])


def test_without_a_seed_one_is_drawn_and_told(pipe: StableDiffusionPipeline) -> None:
    first, second = pipe("boat", **QUICK), pipe("boat", **QUICK)
    assert first.seeds != second.seeds
    again = pipe("boat", seed=first.seeds[0], **QUICK)
    assert np.array_equal(first.images[0], again.images[0])


def test_start_noise_is_the_seed_s_own(pipe: StableDiffusionPipeline) -> None:
    latents = pipe.start_noise(4, 64, 64)
    given = pipe("boat", seed=99, latents=latents, **QUICK)
    seeded = pipe("boat", seed=4, **QUICK)
    assert np.array_equal(given.images[0], seeded.images[0])


def test_a_callback_sees_every_step_and_can_change_the_latents(
    pipe: StableDiffusionPipeline,
) -> None:
    seen: list[tuple[int, int]] = []

    def look(pipe: Any, step: int, timestep: Any, shown: dict[str, Any]) -> None:
        assert shown["latents"].shape == (1, 4, 8, 8)
        seen.append((shown["image"], step))

    def blank(pipe: Any, step: int, timestep: Any, shown: dict[str, Any]) -> dict[str, Any]:
        return {"latents": np.zeros_like(shown["latents"])} if step == 2 else {}

    arguments = {**QUICK, "seed": 1, "output_type": "latent"}
    pipe("boat", num_images_per_prompt=2, callback_on_step_end=look, **arguments)
    assert seen == [(image, step) for image in range(2) for step in range(3)]
    assert not pipe("boat", callback_on_step_end=blank, **arguments).images[0].any()


def test_a_callback_can_stop_the_run(pipe: StableDiffusionPipeline) -> None:
    def stop(pipe: Any, step: int, timestep: Any, shown: dict[str, Any]) -> bool:
        return not (shown["image"] == 1 and step == 1)

    output = pipe("boat", seed=1, num_images_per_prompt=3, callback_on_step_end=stop, **QUICK)
    assert output.stopped
    assert len(output.images) == len(output.seeds) == 1
    assert len(output.timings.steps) == 3 + 2


def test_stages_are_told_from_start_to_end(pipe: StableDiffusionPipeline) -> None:
    told: list[tuple[str, int, int]] = []
    pipe("boat", seed=1, callback_on_stage=lambda *stage: told.append(stage), **QUICK)
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == [
        "load",
        "encode",
        "denoise",
        "decode",
    ]
    for stage in ("load", "encode", "denoise", "decode"):
        done = [done for name, done, _ in told if name == stage]
        totals = {total for name, _, total in told if name == stage}
        assert done == sorted(done)
        assert done[-1] == totals.pop()


def test_several_threads_at_once(pipe: StableDiffusionPipeline) -> None:
    """Different prompts, sizes and schedulers side by side give what each gives alone."""
    jobs = [
        {"prompt": "boat", "seed": 1, "scheduler": "euler_a"},
        {"prompt": "apple", "seed": 2, "scheduler": "dpmpp_2m"},
        {"prompt": "tree", "seed": 3, "width": 72},
        {"prompt": "house", "seed": 4, "guidance_scale": 1.0},
    ]
    alone = [pipe(**{**QUICK, **job}).images[0] for job in jobs]
    together: list[tuple[int, Any]] = []

    def work(number: int) -> None:
        for _ in range(2):
            together.append((number, pipe(**{**QUICK, **jobs[number]}).images[0]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in together) == [0, 0, 1, 1, 2, 2, 3, 3]
    for number, image in together:
        assert np.array_equal(alone[number], image)


def test_threads_may_be_the_first_to_use_the_engine(exported_openvino: Path) -> None:
    """OpenVINO's binding can deadlock when several threads first meet it at once."""
    code = f"""
import sys, threading
from pleinair.runtime import StableDiffusionPipeline
sys.setswitchinterval(1e-6)
painted = []
def paint(barrier=threading.Barrier(4, timeout=500)):
    options = {{"engine": "openvino", "profile": "exact"}}
    pipe = StableDiffusionPipeline.from_pretrained({str(exported_openvino)!r}, **options)
    barrier.wait()
    painted.append(pipe("boat", seed=1, num_inference_steps=1).images[0].tobytes())
threads = [threading.Thread(target=paint, daemon=True) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(painted), "painted,", len(set(painted)), "of them different")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, timeout=600, capture_output=True, text=True)
    assert done.stdout == "4 painted, 1 of them different\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"prompt": 3}, SettingError),
        ({"prompt": []}, PromptError),
        ({"prompt": ["boat", None]}, SettingError),
        ({"width": 63}, SettingError),
        ({"width": 64.0}, SettingError),
        ({"height": 0}, SettingError),
        ({"num_inference_steps": 0}, SettingError),
        ({"num_inference_steps": 2.5}, SettingError),
        ({"guidance_scale": float("inf")}, SettingError),
        ({"eta": -0.1}, SettingError),
        ({"num_images_per_prompt": 0}, SettingError),
        ({"seed": 1.5}, SettingError),
        ({"seed": 2**64 - 1, "num_images_per_prompt": 2}, SettingError),
        ({"output_type": "pt"}, SettingError),
        ({"latents": np.zeros((1, 4, 9, 9), np.float32)}, SettingError),
        ({"clip_skip": 9}, SettingError),
        ({"clip_skip": -1}, SettingError),
        ({"scheduler": "none"}, PleinairError),
    ],
    ids=lambda value: str(value).partition("\n")[0][:50] if isinstance(value, dict) else None,
)
def test_arguments_out_of_range(
    pipe: StableDiffusionPipeline, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        pipe(**{"prompt": "boat", **QUICK, **arguments})


def test_an_unknown_profile(exported_openvino: Path) -> None:
    with pytest.raises(SettingError, match="exact, native, balanced, fast"):
        StableDiffusionPipeline.from_pretrained(exported_openvino, profile="quick")


def test_a_black_picture_is_an_error_in_words(
    pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = np.full((1, 4, 8, 8), 3e38, np.float32)
    with pytest.raises(EngineError, match="no numbers"):
        pipe("boat", latents=broken, seed=1, **QUICK)


def test_long_prompts_tell_what_they_lose(
    pipe: StableDiffusionPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", logger="pleinair"):
        pipe("boat " * 75 + "red apple", seed=1, long_prompt="truncate", **QUICK)
    assert [record.message for record in caplog.records] == [
        "prompt is 79 tokens long and 77 fit; dropped: red apple"
    ]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_paints_where_torch_is_absent(exported_openvino: Path, tmp_path: Path) -> None:
    """An import hook stands in for an environment without them; .ci/run has a real one."""
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        heavy = {{"torch", "transformers", "diffusers", "optimum", "nncf", "scipy"}}
        if name.partition(".")[0] in heavy:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from pleinair.runtime.cli import main
sys.exit(main(["--model", {str(exported_openvino)!r}, "--steps", "1",
               "--outdir", {str(tmp_path)!r}]))
"""
    run_python(code)
    assert (tmp_path / "samples" / "00000.png").stat().st_size > 1000


def test_importing_the_library_loads_no_engine() -> None:
    code = "import sys, pleinair.runtime; print(*sys.modules)"
    loaded = set(run_python(code).stdout.split())
    assert not loaded & {"openvino", "onnxruntime", "numpy", "PIL", "tokenizers", "rich"}


def test_help_loads_no_engine() -> None:
    code = """
import contextlib, io, sys
from pleinair.runtime.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["--help"])
print(*sys.modules)
"""
    loaded = set(run_python(code).stdout.split())
    assert not loaded & {"openvino", "onnxruntime", "tokenizers"}


def test_the_library_prints_nothing(exported_openvino: Path) -> None:
    code = f"""
from pleinair.runtime import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained({str(exported_openvino)!r}, profile="exact")
pipe("boat " * 90, seed=1, num_inference_steps=1)
"""
    finished = run_python(code)
    assert finished.stdout == finished.stderr == ""
