"""Layouts of textual inversion files, and words that come with a LoRA, in a prompt."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loras
from fakes import POCKET
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.adapters import inversion
from pleinair.runtime.cli import main
from pleinair.runtime.errors import AdapterError

torch = pytest.importorskip("torch")


def vectors(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.pti", "X.SAFETENSORS"])
@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_both_encoders_of_xl(name: str, keys: tuple[str, str], tmp_path: Path) -> None:
    """kohya's and webui's names, and those of diffusers' older trainer; a .pti is either format."""
    from safetensors.torch import save_file

    found = {key: torch.from_numpy(vectors(2, 4 * i)) for i, key in enumerate(keys, 2)}
    (torch.save if name.endswith(".pt") else save_file)(found, tmp_path / name)
    read = inversion.read(tmp_path / name)
    assert read.word == Path(name).stem
    np.testing.assert_array_equal(read.vectors["text_encoder"], vectors(2, 8))
    np.testing.assert_array_equal(read.vectors["text_encoder_2"], vectors(2, 12))


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float16"])
def test_number_types(dtype: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    values = torch.from_numpy(vectors(2)).to(getattr(torch, dtype))
    save_file({"emb_params": values}, tmp_path / "w.safetensors")
    torch.save({"<w>": values}, tmp_path / "w.bin")
    for name, word in (("w.safetensors", "w"), ("w.bin", "<w>")):
        read = inversion.read(tmp_path / name)
        assert read.word == word
        np.testing.assert_array_equal(read.vectors["text_encoder"], values.double().numpy())


def test_one_vector_may_have_one_axis(tmp_path: Path) -> None:
    torch.save({"<w>": torch.ones(8)}, tmp_path / "w.bin")
    assert inversion.read(tmp_path / "w.bin").tokens == ["<w>"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "words": ({"<a>": torch.ones(1, 8), "<b>": torch.ones(1, 8)}, "several words .*<a>, <b>"),
    "lengths": ({"clip_l": torch.ones(1, 8), "clip_g": torch.ones(2, 12)}, "no vectors"),
    "no numbers": ({"<a>": torch.full((1, 8), float("nan"))}, "no numbers"),
    "a checkpoint": (
        {"model.diffusion_model.out.2.weight": torch.ones(4, 8), "model.x": torch.ones(4, 8)},
        "a whole checkpoint",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_embedding_is_named(case: str, tmp_path: Path) -> None:
    tensors, message = WRONG[case]
    torch.save(tensors, tmp_path / "bad.pt")
    with pytest.raises(AdapterError, match=rf"bad\.pt.*{message}"):
        inversion.read(tmp_path / "bad.pt")


def test_the_command_line_says_what_is_not_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, once, before anything is painted."""
    pair = {"lora_unet_conv_in.diff": np.full((48, 4, 3, 3), 0.01, "f4")}
    file = loras.save(tmp_path / "odd.safetensors", pair | {"conjured_up": np.ones(1, "f4")})
    arguments = ["--model", str(POCKET), "--prompt", "a", "--lora", str(file), "--eta", "7"]
    assert main(arguments) == 2  # for eta: nothing is compiled
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "odd.safetensors" in one]
    assert "1 key is not applied: conjured_up (of no known kind)" in line


def test_words_of_a_lora_are_words_of_the_prompt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As if the embedding had been given beside the LoRA; a file of the user's own goes first."""
    word, own = vectors(2, 128), vectors(1, 128, 1)
    pair = {"lora_unet_conv_in.diff": np.full((48, 4, 3, 3), 0.01, "f4")}
    bundle = {"bundle_emb.sks.string_to_param.*": word}
    bundled = loras.save(tmp_path / "bundled.safetensors", pair | bundle)
    alone = loras.save(tmp_path / "sks.safetensors", {"emb_params": own})

    def opened(**files: Any) -> tuple[list[int], np.ndarray]:
        """What "sks" is in a prompt, and the rows of the embedding matrix that it means."""
        pipe = StableDiffusionPipeline.from_pretrained(POCKET, profile="exact", **files)
        family: Any = pipe.family
        ids = [piece.id for piece in family.tokenizer.pieces("sks")]
        changes = pipe.parts.changed["text_encoder"].changes
        change = changes["embeddings.token_embedding.weight"]
        return ids, change(np.zeros((ids[0], 128), np.float32))[ids]

    ids, rows = opened(loras=[bundled])
    assert len(ids) == 2
    np.testing.assert_array_equal(rows, word)
    assert not caplog.records
    ids, rows = opened(loras=[bundled], embeddings=[alone])
    np.testing.assert_array_equal(rows, own)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "bundled.safetensors" in line
    assert "sks" in line
