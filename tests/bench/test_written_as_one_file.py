"""One file from a diffusers folder: the names of the original layout, and every weight."""

import json
from pathlib import Path

import pytest

from pleinair.bench.__main__ import main


def test_diffusers_reads_it_back(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
    from safetensors.torch import load_file

    file = tmp_path / "out" / "one.safetensors"
    assert main(["single-file", str(tiny_checkpoint), str(file)]) == 0
    written = load_file(file)
    config = json.loads((tiny_checkpoint / "unet" / "config.json").read_text(encoding="utf-8"))
    unet = convert_ldm_unet_checkpoint(dict(written), config)
    original = load_file(tiny_checkpoint / "unet" / "diffusion_pytorch_model.safetensors")
    assert unet.keys() == original.keys()
    assert all((unet[name] == original[name]).all() for name in original)
    text = load_file(tiny_checkpoint / "text_encoder" / "model.safetensors")
    vae = load_file(tiny_checkpoint / "vae" / "diffusion_pytorch_model.safetensors")
    assert len(written) == len(original) + len(text) + len(vae)
    assert written["first_stage_model.decoder.mid.attn_1.q.weight"].ndim == 4
    assert sorted(path.name for path in file.parent.iterdir()) == ["one.safetensors"]


@pytest.mark.parametrize("name", ["old.safetensors", "new.bin"])
def test_refuses_what_it_should_not_write(
    name: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.safetensors").write_bytes(b"mine")
    assert main(["single-file", str(tiny_checkpoint), str(tmp_path / name)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "old.safetensors").read_bytes() == b"mine"


def test_refuses_what_is_no_such_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["single-file", str(tmp_path), str(tmp_path / "a.safetensors")]) == 2
    assert "model_index.json" in capsys.readouterr().err
