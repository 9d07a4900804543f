"""The command lines of the published guides, with a checkpoint of their kind.

Word for word, but for steps and sizes: a picture of 512x512 is not what is tested.
"""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from checkpoints import compvis_state, tiny_stable_diffusion
from compilations import Compilations
from pleinair.runtime.cli import main
from pleinair.runtime.cli.arguments import parser
from pleinair.runtime.cli.pipelines import family_of
from pleinair.runtime.hub import pull
from pleinair.runtime.model import catalog

# CompVis's README of stable-diffusion, and bes-dev's of stable_diffusion.openvino.
_ASTRONAUT = "a photograph of an astronaut riding a horse"
_BANKSY = "Street-art painting of Emilia Clarke in style of Banksy, photorealism"
_HAIR = "Photo of Emilia Clarke with a bright red hair"
COMPVIS = [
    f'--prompt "{_ASTRONAUT}" --plms --ckpt sd-v1-4.ckpt',
    f'--prompt "{_ASTRONAUT}" --ckpt sd-v1-4.ckpt --skip_grid --n_samples 1 --H 64 --W 64 '
    "--ddim_steps 4 --outdir out",
    '--prompt "A fantasy landscape, trending on artstation" --init-img data/input.png '
    "--strength 0.8 --ckpt sd-v1-4.ckpt",
    f'--prompt "{_ASTRONAUT}" --ckpt sd-v1-4.ckpt --H 64 --W 64 --ddim_steps 4 '
    "--config configs/stable-diffusion/v1-inference.yaml",  # of a checkout that is not here
]
BES_DEV = [
    f'--prompt "{_BANKSY}"',
    f'--model sd-v1-4.ckpt --prompt "{_BANKSY}" --seed 1 --num-inference-steps 4 '
    "--guidance-scale 7.5 --eta 0.0 --tokenizer openai/clip-vit-large-patch14 --output out.png "
    "--width 64 --height 64",
    f'--model sd-v1-4.ckpt --prompt "{_HAIR}" --init-image ./data/input.png --strength 0.5',
    f'--model sd-v1-4.ckpt --prompt "{_HAIR}" --init-image ./data/input.png '
    "--mask ./data/mask.png --strength 0.5",
]


@pytest.fixture(scope="module")
def published(made: Callable[..., Path]) -> Path:
    """A folder with a checkpoint as the published one, pickled, and pictures."""

    def make(folder: Path) -> None:
        checkpoint = folder.with_name("tiny-clip")
        tiny_stable_diffusion(checkpoint, clip_vocabulary=True)
        (folder / "data").mkdir(parents=True)
        state = {"state_dict": compvis_state(checkpoint), "global_step": 470_000}
        torch.save(state, folder / "sd-v1-4.ckpt")
        Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(folder / "data/input.png")
        Image.radial_gradient("L").resize((64, 64)).save(folder / "data/mask.png")

    return made("published", make)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, compilations: Compilations) -> Path:
    """Where the checkpoint is converted to, by the first of the commands that paints with it."""
    folder = tmp_path_factory.mktemp("models")
    compilations.folders.add(folder.resolve())
    return folder


@pytest.fixture(autouse=True)
def here(
    published: Path,
    models: Path,
    tmp_path: Path,
    traced_once: None,
    compiled_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An empty folder with the guides' files; the converter runs in this process."""
    from pleinair.export import cli

    (tmp_path / "sd-v1-4.ckpt").symlink_to(published / "sd-v1-4.ckpt")
    (tmp_path / "data").symlink_to(published / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLEINAIR_MODELS", str(models))
    monkeypatch.delenv("PLEINAIR_MODEL", raising=False)
    monkeypatch.setattr(
        pull, "run_converter", lambda source, target, *more: cli.main([source, str(target), *more])
    )


@pytest.mark.parametrize("line", [*COMPVIS, *BES_DEV])
def test_a_command_of_a_guide(line: str, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = list(models.glob("*/model_index.json"))
    assert main(shlex.split(line)) == 0
    printed = capsys.readouterr()
    files = [Path(name) for name in printed.out.splitlines() if name.endswith(".png")]
    assert files
    assert all(Image.open(file).format == "PNG" for file in files)
    if "sd-v1-4.ckpt" in line:
        (folder,) = models.glob("*/model_index.json")  # converted once, and found again
        assert folder.parent.name.startswith("sd-v1-4-")
        assert ("it is converted once" in printed.err) == (not before)
        assert str(folder.parent) in printed.err
    if "--tokenizer" in line:
        assert "the model's own tokenizer is used" in printed.err


def test_a_fresh_model_is_not_the_default(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was the one last converted; a new export changed what the next command painted with."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "fresh").symlink_to(exported_openvino)
    monkeypatch.setenv("PLEINAIR_MODELS", str(tmp_path / "mine"))
    line = ["--prompt", "a rocket"]
    assert family_of(parser().parse_args(line)).bundle.path == catalog.bundled()
    named = family_of(parser().parse_args([*line, "--model", "fresh"]))
    assert named.bundle.path == tmp_path / "mine" / "fresh"
