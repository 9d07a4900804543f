"""The last step: the tiny decoder and tiles with every profile."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.speed.profiles import PROFILES

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK: dict[str, Any] = {"seed": 3, "num_inference_steps": 2, "scheduler": "ddim", "safety": "off"}


@pytest.fixture(scope="module")
def folder(exported_guarded: Path, made: Any) -> Path:
    """Both formats, a tiny decoder, and graphs under the names of the 8-bit ones."""

    def make(folder: Path) -> None:
        shutil.copytree(exported_guarded, folder, copy_function=os.link)
        for part in ("unet", "vae_decoder"):
            shutil.copytree(folder / part, folder / f"{part}_int8", copy_function=os.link)

    return made("decoders", make)


def decoders(pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The folders that decoders are compiled from, as they are."""
    seen: set[str] = set()
    compile = pipe.engine.compile

    def compiled(path: Path, *arguments: Any) -> Any:
        if path.parent.name.startswith("vae_decoder"):
            seen.add(path.parent.name)
        return compile(path, *arguments)

    monkeypatch.setattr(pipe.engine, "compile", compiled)
    return seen


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_the_tiny_decoder(
    folder: Path, profile: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, engine=engine, profile=profile)
    seen = decoders(pipe, monkeypatch)
    latents = pipe("boat", output_type="latent", width=32, height=32, **QUICK).images[0]
    seen.clear()
    tiny = pipe("boat", vae="tiny", width=32, height=32, **QUICK).images[0]
    assert seen == {"vae_decoder_tiny"}
    # Of the very latents of the profile, and by the folder's tiny decoder, which previews take.
    assert np.array_equal(np.asarray(tiny), np.asarray(pipe.preview(latents)))


@pytest.mark.parametrize(("profile", "vae"), [("balanced", "full"), ("exact", "tiny")])
def test_they_decode_in_tiles(folder: Path, profile: str, vae: str) -> None:
    """Where tiles end a picture changes hardly more from dot to dot than around it."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile=profile)
    how: dict[str, Any] = {"vae": vae, "width": 128, "height": 64, **QUICK}
    whole, tiled = (
        np.asarray(pipe("boat", vae_tiling=tiling, **how).images[0]).astype(int)
        for tiling in ("off", "on")
    )
    assert whole.shape == tiled.shape
    assert not np.array_equal(whole, tiled)  # tiles of 64 pixels there were
    change = np.abs(np.diff(tiled, axis=1)).mean(axis=(0, 2))
    assert change.max() < 2 * max(np.abs(np.diff(whole, axis=1)).mean(axis=(0, 2)).max(), 1)
