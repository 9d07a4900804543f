"""Live previews: of the clean picture, in files and terminals; the tiny decoder."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pictures import painting
from pleinair.runtime import StableDiffusionPipeline, schedulers
from pleinair.runtime.cli import main
from pleinair.runtime.cli.live import PreviewFile, PreviewTerminal
from pleinair.runtime.cli.progress import StageBars
from pleinair.runtime.errors import SettingError
from pleinair.runtime.images.preview import LatentColours

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK = {"num_inference_steps": 3, "width": 64, "height": 72, "scheduler": "ddim"}


@pytest.mark.parametrize("name", schedulers.names({"_class_name": "PNDMScheduler"}))
def test_the_clean_sample_is_what_noise_was_put_on(name: str) -> None:
    """A model that knows the noise shows the picture at every step."""
    random = np.random.default_rng(0)
    clean, noise = random.normal(0, 1, (2, 1, 4, 8, 8)).astype(np.float32)
    config = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear"}
    scheduler = schedulers.from_config(config, name=name)
    scheduler.set_timesteps(5)
    for i, t in enumerate(scheduler.timesteps):
        scheduler.set_timesteps(5)
        scheduler.set_begin_index(i)
        sample = scheduler.add_noise(clean, noise, t)
        scheduler.scale_model_input(sample, t)
        found = scheduler.pred_original_sample(noise, t, sample)
        # At sigma 100 and more float32 leaves few digits of the picture.
        np.testing.assert_allclose(found, clean, atol=2e-3)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def pipe(request: pytest.FixtureRequest, exported_guarded: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        exported_guarded, engine=request.param, device="cpu", profile="exact"
    )


def test_the_tiny_decoder_is_diffusers(
    pipe: StableDiffusionPipeline, guarded_checkpoint: Path
) -> None:
    import torch
    from diffusers import AutoencoderTiny, DDIMScheduler
    from diffusers import StableDiffusionPipeline as Diffusers

    tiny = AutoencoderTiny.from_pretrained(guarded_checkpoint / "tiny_vae")
    reference = Diffusers.from_pretrained(
        guarded_checkpoint, vae=tiny, safety_checker=None, feature_extractor=None
    )
    reference.set_progress_bar_config(disable=True)
    reference.scheduler = DDIMScheduler.from_config(reference.scheduler.config)
    arguments = {name: value for name, value in QUICK.items() if name != "scheduler"}
    generator = torch.Generator("cpu").manual_seed(3)
    theirs = np.asarray(reference("boat", generator=generator, **arguments).images[0], int)
    seen: list[dict[str, Any]] = []
    out = pipe(
        "boat",
        seed=3,
        vae="tiny",
        safety="off",
        callback_on_step_end=lambda pipe, i, t, shown: seen.append(shown),
        **QUICK,
    )
    ours = np.asarray(out.images[0], int)
    assert theirs.std() > 1
    assert np.abs(ours - theirs).max() <= 1
    # A preview is by the same decoder, and after the last step of the same latents.
    assert np.array_equal(np.asarray(pipe.preview(seen[-1]["latents"])), ours)
    np.testing.assert_allclose(seen[-1]["pred_original_sample"], seen[-1]["latents"], atol=0.2)


def test_a_folder_without_one(exported_openvino: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(exported_openvino, profile="exact")
    with pytest.raises(SettingError, match="has no tiny decoder; export it anew"):
        pipe("boat", vae="tiny", **QUICK)
    with pytest.raises(SettingError, match="full, tiny"):
        pipe("boat", vae="small", **QUICK)
    preview = pipe.preview(np.zeros((1, 4, 9, 8), np.float32))
    assert preview.size == (64, 72)
    assert np.asarray(preview)[0, 0].tolist() == [128, 128, 128]  # Stable Diffusion's grey


def test_the_map_of_other_models_is_fitted() -> None:
    """From a decoder that is linear, it comes out as it is."""
    weights = np.random.default_rng(1).normal(0, 0.1, (4, 3)).astype(np.float32)

    def decode(latents: np.ndarray) -> np.ndarray:
        colours = latents[0].transpose(1, 2, 0) @ weights + np.float32(0.5)
        return np.repeat(np.repeat(colours, 4, axis=0), 4, axis=1)

    colours = LatentColours.fitted((1, 4, 16, 12), decode)
    np.testing.assert_allclose(colours.weights, weights, atol=1e-4)
    np.testing.assert_allclose(colours.bias, 0.5, atol=1e-4)
    assert colours.picture(np.zeros((1, 4, 6, 5), np.float32), 4).size == (20, 24)


def test_a_file_is_replaced_but_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "new" / "live.png"
    preview = PreviewFile(path)
    for colour in ("red", "blue"):
        preview.show(Image.new("RGB", (8, 8), colour))
        assert Image.open(path).getpixel((0, 0)) == Image.new("RGB", (1, 1), colour).getpixel(
            (0, 0)
        )
    assert [file.name for file in path.parent.iterdir()] == ["live.png"]
    PreviewFile(path).clear()
    assert not path.exists()
    painting().save(tmp_path / "precious.png")
    for name, says in (("precious.png", "is no preview"), ("live.jpg", "ends in .png")):
        with pytest.raises(SettingError, match=says):
            PreviewFile(tmp_path / name)


def terminal(**environment: str) -> tuple[Console, PreviewTerminal]:
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        width=60,
        height=24,
        legacy_windows=False,
        _environ=environment,
    )
    return console, PreviewTerminal(console, environment)


@pytest.mark.parametrize(
    ("environment", "begins"),
    [
        ({"TERM": "xterm-kitty"}, "\x1b_Ga=T,f=100"),
        ({"TERM_PROGRAM": "iTerm.app"}, "\x1b]1337;File=inline=1;"),
        ({"TERM_PROGRAM": "iTerm.app", "TMUX": "1"}, "▀"),
        ({}, "▀"),
    ],
    ids=str,
)
def test_terminals(environment: dict[str, str], begins: str) -> None:
    console, preview = terminal(**environment)
    assert console.render_str("") is not None
    console.print(preview)
    assert not console.file.getvalue().strip("\n").replace("\x1b_Ga=d,d=I,i=5072,q=2\x1b\\", "")
    preview.show(painting(64, 32))
    console.print(preview)
    written = console.file.getvalue()
    assert begins in written
    assert written.count("\n") in range(12, 15)  # 48 columns are 12 lines of a picture 2 to 1
    if begins == "▀":
        assert written.count("▀") == 12 * 48
        assert "\x1b_G" not in written


def test_bars_and_picture_share_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands on the screen after some steps: one picture, one bar under it."""
    console, _ = terminal()
    monkeypatch.setattr("pleinair.runtime.cli.progress.Console", lambda **_: console)
    _, preview = terminal()
    with StageBars(1, preview) as bars:
        for step in range(4):
            bars("denoise", step, 4)
            preview.show(painting(64, 32))
        bars("denoise", 4, 4)
        screen = on_screen(console.file.getvalue())
        assert sum("▀" * 48 in line for line in screen) == 12
        assert sum("painting" in line for line in screen) == 1
        assert "4/4" in next(line for line in screen if "painting" in line)
    assert not "".join(on_screen(console.file.getvalue())).strip()


def on_screen(written: str) -> list[str]:
    """What a terminal shows that knows line feeds, returns, erasing and going up."""
    lines, y, x = [""], 0, 0
    for mark in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|.|\n|\r", written):
        if mark == "\n":
            y, x = y + 1, 0
            lines += [""] * (y + 1 - len(lines))
        elif mark == "\r":
            x = 0
        elif mark.endswith("A") and mark.startswith("\x1b"):
            y -= int(mark[2:-1] or 1)
        elif mark.startswith("\x1b[2K"):
            lines[y] = ""
        elif not mark.startswith("\x1b"):
            lines[y] = lines[y][:x].ljust(x) + mark + lines[y][x + 1 :]
            x += 1
    return lines


def test_the_command_line(
    exported_guarded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--model", str(exported_guarded), "--engine", "openvino", "--steps", "3"]
    quick += ["--seed", "7", "--safety", "off"]
    assert main([*quick, "--preview", "live.png", "--output", "a.png", "--vae", "tiny"]) == 0
    assert np.array_equal(Image.open("live.png"), Image.open("a.png"))
    assert '"vae": "tiny"' in Image.open("a.png").text["pleinair"]
    capsys.readouterr()
    # In a pipe nothing is shown.
    assert main([*quick, "--preview", "terminal", "--output", "b.png"]) == 0
    written = capsys.readouterr()
    assert "▀" not in written.out + written.err
    assert main([*quick, "--preview", "a.png", "--output", "c.png"]) == 2
    assert main([*quick, "--preview", "live.png", "--preview-every", "0"]) == 2
