"""The command line: pictures out, and one clear line with exit code 2 for what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.images import watermark

pytestmark = pytest.mark.usefixtures("compiled_once")

DEMO = Path(__file__).parents[2] / "demo.py"


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(exported_openvino: Path) -> str:
    return str(exported_openvino)


@pytest.fixture
def quick(model: str) -> list[str]:
    return ["--model", model, "--steps", "2", "--seed", "7"]


def pictures(folder: str = "outputs/txt2img-samples") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))


def test_a_picture_is_what_the_library_paints(quick: list[str], model: str, capsys) -> None:
    assert main([*quick, "--prompt", "boat", "--output", "new/boat.png"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(Path("new/boat.png"))]
    pipe = StableDiffusionPipeline.from_pretrained(model, profile="exact")
    own = pipe("boat", seed=7, num_inference_steps=2).images[0]
    assert np.array_equal(Image.open("new/boat.png"), own)


def test_the_names_of_txt2img(quick: list[str], model: str) -> None:
    """Every flag of CompVis's txt2img.py that belongs to text to image."""
    flags = ["--prompt", "boat", "--outdir", "out", "--n_samples", "2", "--n_iter", "2"]
    flags += ["--ddim_steps", "2", "--plms", "--fixed_code", "--ddim_eta", "0.0", "--n_rows", "3"]
    flags += ["--H", "64", "--W", "72", "--scale", "5", "--seed", "3", "--precision", "full"]
    flags += ["--config", "configs/stable-diffusion/v1-inference.yaml", "--C", "4", "--f", "8"]
    assert main([*flags, "--ckpt", model]) == 0
    assert pictures("out") == ["grid-0000.png", *(f"samples/0000{i}.png" for i in range(4))]
    first, second = (Image.open(f"out/samples/0000{i}.png") for i in (0, 1))
    assert first.size == (72, 64)
    # PLMS draws no noise of its own: from one start noise all pictures are the same.
    assert np.array_equal(first, second)
    assert Image.open("out/grid-0000.png").size == (3 * 72, 2 * 64)


def test_the_names_of_stable_diffusion_openvino(model: str) -> None:
    """Every flag of bes-dev's demo.py that belongs to text to image."""
    flags = ["--model", model, "--device", "CPU", "--seed", "1", "--beta-start", "0.0001"]
    flags += ["--beta-end", "0.02", "--beta-schedule", "linear", "--num-inference-steps", "2"]
    flags += ["--guidance-scale", "7.5", "--eta", "0.0", "--prompt", "boat"]
    flags += ["--tokenizer", str(Path(model) / "tokenizer"), "--output", "out.png"]
    assert main(flags) == 0
    assert main(["--model", model, "--seed", "1", "--steps", "2", "--output", "plain.png"]) == 0
    assert not np.array_equal(Image.open("out.png"), Image.open("plain.png"))


@pytest.mark.parametrize(
    "flags",
    [["--scheduler", "euler_a"], ["--dpm_solver"], ["--negative-prompt", "red"], ["--eta", "1"]],
    ids=" ".join,
)
def test_what_changes_the_picture(quick: list[str], flags: list[str]) -> None:
    common = [*quick, "--prompt", "boat", *(["--scheduler", "ddim"] if "--eta" in flags else [])]
    assert main([*common, *flags, "--output", "a.png"]) == 0
    assert main([*common, "--output", "b.png"]) == 0
    assert not np.array_equal(Image.open("a.png"), Image.open("b.png"))


def test_files_are_numbered_and_never_overwritten(quick: list[str]) -> None:
    for _ in range(2):
        assert main([*quick, "--n_samples", "2"]) == 0
    assert pictures() == [
        "grid-0000.png",
        "grid-0001.png",
        *(f"samples/0000{i}.png" for i in range(4)),
    ]
    Path("mine.png").write_bytes(b"precious")
    assert main([*quick, "--output", "mine.png"]) == 2
    assert Path("mine.png").read_bytes() == b"precious"


def test_skipping(quick: list[str]) -> None:
    assert main([*quick, "--n_samples", "2", "--skip_grid", "--outdir", "a"]) == 0
    assert pictures("a") == ["samples/00000.png", "samples/00001.png"]
    assert main([*quick, "--n_samples", "2", "--skip_save", "--outdir", "b"]) == 0
    assert pictures("b") == ["grid-0000.png"]
    assert main([*quick, "--n_samples", "2", "--skip_save", "--skip_grid", "--outdir", "c"]) == 0
    assert not Path("c").exists()


def test_any_picture_of_a_batch_can_be_made_again_alone(quick: list[str], model: str) -> None:
    assert main([*quick, "--n_samples", "3", "--outdir", "batch"]) == 0
    alone = ["--model", model, "--steps", "2", "--seed", "9", "--output", "alone.png"]
    assert main(alone) == 0
    assert np.array_equal(Image.open("batch/samples/00002.png"), Image.open("alone.png"))


def test_pictures_carry_prompt_and_settings(quick: list[str]) -> None:
    prompt = "a red apple 蓝色, 🍎"
    assert main([*quick, "--prompt", prompt, "--negative-prompt", "cat", "--output", "a.png"]) == 0
    text = Image.open("a.png").text
    assert text["parameters"].splitlines()[:2] == [prompt, "Negative prompt: cat"]
    assert "Steps: 2, " in text["parameters"]
    assert "Seed: 7, Size: 64x64, Model: tiny-openvino" in text["parameters"]
    assert '"guidance_scale": 7.5' in text["pleinair"]


@pytest.mark.parametrize("name", ["first.png", "first.jpg", "first.webp"])
def test_a_picture_repeats_itself(quick: list[str], model: str, name: str) -> None:
    """All that differs from the defaults is taken back out of the file."""
    flags = ["--prompt", "a boat, 蓝色", "--negative-prompt", "fog", "--scale", "4", "--W", "72"]
    flags += ["--scheduler", "ddim", "--eta", "0.5", "--clip-skip", "1", "--beta-end", "0.02"]
    assert main([*quick, *flags, "--output", name]) == 0
    assert main([*quick, *flags, "--output", "same.png"]) == 0
    again = ["--model", model, "--params-from", name]
    assert main([*again, "--output", "again.png"]) == 0
    assert np.array_equal(Image.open("again.png"), Image.open("same.png"))
    assert main([*again, "--seed", "8", "--output", "other.png"]) == 0
    assert main([*quick, *flags, "--seed", "8", "--output", "same8.png"]) == 0
    assert np.array_equal(Image.open("other.png"), Image.open("same8.png"))
    assert not np.array_equal(Image.open("other.png"), Image.open("same.png"))


def test_a_picture_of_a_fixed_code_repeats_itself(quick: list[str], model: str) -> None:
    assert main([*quick, "--n_samples", "2", "--fixed_code", "--scheduler", "euler_a"]) == 0
    second = "outputs/txt2img-samples/samples/00001.png"
    assert main(["--model", model, "--params-from", second, "--output", "again.png"]) == 0
    assert np.array_equal(Image.open("again.png"), Image.open(second))


def test_another_model_is_told(
    quick: list[str], model: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*quick, "--output", "a.png"]) == 0
    # The model is found by its name where models stand ...
    monkeypatch.setenv("PLEINAIR_MODELS", str(Path(model).parent))
    capsys.readouterr()
    assert main(["--params-from", "a.png", "--output", "b.png"]) == 0
    assert f"model: {model};" in capsys.readouterr().err
    assert np.array_equal(Image.open("a.png"), Image.open("b.png"))
    # ... and never by a path that a file names.
    _with_json("c.png", {"prompt": "boat", "model": str(Path(model)), "device": "../../evil"})
    assert main([*quick, "--params-from", "c.png", "--output", "d.png"]) == 0
    assert f"painted with {model[:20]}" in capsys.readouterr().err


def test_what_a_file_says_is_not_obeyed_blindly(quick: list[str], capsys) -> None:
    said = {"prompt": "boat", "seed": "7", "scheduler": "\x1b[2J", "engine": "x", "surprise": {}}
    _with_json("a.png", said)
    assert main([*quick, "--params-from", "a.png", "--output", "b.png"]) == 0
    lines = capsys.readouterr().err.splitlines()
    (told,) = [line for line in lines if line.startswith("a.png: not used: ")]
    assert "seed 7" in told
    assert "surprise" in told
    assert "\x1b" not in told
    assert [line for line in lines if "painting on what is here" in line]
    assert main([*quick, "--prompt", "boat", "--output", "c.png"]) == 0
    assert np.array_equal(Image.open("b.png"), Image.open("c.png"))


def test_pictures_that_say_nothing_are_one_line(quick: list[str], capsys) -> None:
    Image.new("RGB", (8, 8)).save("plain.png")
    Path("text.png").write_text("hello")
    for name in ("plain.png", "text.png", "nowhere.png"):
        assert main([*quick, "--params-from", name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {name}: ")


def _with_json(path: str, said: dict[str, object]) -> None:
    info = PngInfo()
    info.add_text("pleinair", json.dumps(said))
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)


def test_watermark(quick: list[str], model: str, capsys) -> None:
    size = ["--W", "256", "--H", "256"]
    assert main([*quick, *size, "--watermark", "--output", "a.png"]) == 0
    assert watermark.extract(Image.open("a.png")) == b"StableDiffusionV1"
    assert main([*quick, *size, "--output", "plain.png"]) == 0
    assert watermark.extract(Image.open("plain.png")) != b"StableDiffusionV1"
    assert main(["--model", model, "--params-from", "a.png", "--output", "b.png"]) == 0
    assert np.array_equal(Image.open("a.png"), Image.open("b.png"))
    capsys.readouterr()
    assert main([*quick, "--watermark", "mine", "--output", "c.png"]) == 2
    assert "64x64 is too small for a watermark" in capsys.readouterr().err


def test_prompts_from_a_file(quick: list[str], capsys) -> None:
    lines = ["\ufeffboat".encode(), b"", b"  ", b"\xff\xfe broken", "苹果".encode(), b"apple"]
    Path("prompts.txt").write_bytes(b"\r\n".join(lines))
    assert main([*quick, "--from-file", "prompts.txt", "--skip_grid"]) == 2
    output = capsys.readouterr()
    assert "line 4" in output.err
    prompts = [
        Image.open(path).text["parameters"].splitlines()[0] for path in output.out.splitlines()
    ]
    assert prompts == ["boat", "苹果", "apple"]


def test_utf_16_as_windows_writes_it(quick: list[str], capsys) -> None:
    Path("prompts.txt").write_text("boat\r\ncafé\r\n", encoding="utf-16", newline="")
    assert main([*quick, "--from-file", "prompts.txt", "--skip_grid"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--W", "65"], "multiple of 8"),
        (["--H", "0"], "multiple of 8"),
        (["--W", "-64"], "multiple of 8"),
        (["--steps", "0"], "--steps is 0"),
        (["--steps", "1001"], "1000"),
        (["--scale", "nan"], "--scale is nan"),
        (["--scale", "-1"], "--scale is -1"),
        (["--eta", "2"], "eta"),
        (["--seed", str(2**64)], "seed"),
        (["--n_samples", "0"], "n_samples"),
        (["--n_rows", "-1"], "n_rows"),
        (["--threads", "0"], "threads"),
        (["--max-memory", "1" * 400], "--max-memory is"),
        (["--clip-skip", "9"], "--clip-skip is 9"),
        (["--scheduler", "magic"], "magic"),
        (["--beta-schedule", "magic"], "magic"),
        (["--device", "tpu"], "tpu"),
        (["--device", "cuda"], "onnx"),
        (["--engine", "onnxruntime"], "pleinair-export"),
        (["--from-file", "nowhere.txt"], "nowhere.txt"),
        (["--output", "picture.xyz"], "picture.xyz"),
        (["--output", "picture.png", "--n_samples", "2"], "--outdir"),
        (["--tokenizer", "nowhere"], "nowhere"),
        (["--C", "8"], "--C is 8"),
        (["--f", "16"], "--f is 16"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_values_are_one_line(quick: list[str], flags: list[str], says: str, capsys) -> None:
    assert main([*quick, *flags]) == 2
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in output.err
    assert not output.out


def test_a_missing_model_is_one_line(capsys) -> None:
    assert main(["--model", "nowhere"]) == 2
    assert "nowhere: no such model folder" in capsys.readouterr().err
    assert main(["--model", "sd-turbo"]) == 2
    assert "pleinair pull sd-turbo" in capsys.readouterr().err


def test_unknown_flags_exit_with_2() -> None:
    assert main(["--magic"]) == 2


def test_a_full_disk_is_told_before_painting(
    quick: list[str], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(quick) == 2
    assert "No space left" in capsys.readouterr().err
    assert pictures("outputs") == []


def test_a_place_that_is_no_folder(quick: list[str], capsys) -> None:
    Path("file").write_text("")
    assert main([*quick, "--outdir", "file"]) == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process alone")
def test_ctrl_c_leaves_finished_pictures_whole(model: str) -> None:
    command = [sys.executable, str(DEMO), "--model", model, "--n_samples", "500", "--steps", "3"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, and these tests may be in one, ignore Ctrl-C by inheritance.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 300  # a busy machine starts slowly
    while not list(Path("outputs").rglob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    named = out.splitlines()
    assert sorted(named) == sorted(str(path) for path in Path("outputs").rglob("*.png"))
    assert named
    assert not [name for name in pictures() if "partial" in name]
    for name in named:
        Image.open(name).load()


def test_models_are_listed(model: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEINAIR_MODELS", str(Path(model).parent))
    assert main(["models"]) == 0
    output = capsys.readouterr().out
    assert "pleinair pull stable-diffusion-v1-4" in output
    assert f"on disk: {model} (openvino)" in output
    assert "licence: CreativeML OpenRAIL-M" in output


def test_models_verifies(model: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEINAIR_MODELS", str(Path(model).parent))
    assert main(["models", "--verify"]) == 0
    assert "files are as exported" in capsys.readouterr().out


def test_help_names_every_flag(capsys) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--help", "all"])
    assert exit.value.code == 0
    assert "--negative-prompt" in capsys.readouterr().out
