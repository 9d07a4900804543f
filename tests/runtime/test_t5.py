"""T5's ids are those of transformers, its embeddings those of Stable Diffusion 3's pipeline."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints_sd3 import random, tiny_t5, unigram_tokenizer
from pleinair.runtime.denoise.guidance import CONDITIONAL, UNCONDITIONAL, classifier_free
from pleinair.runtime.errors import BundleError, EngineError, PromptError, SettingError
from pleinair.runtime.families.prompts import conditioned
from pleinair.runtime.text.chunks import chunks_of
from pleinair.runtime.text.prompt import tokenized
from pleinair.runtime.text.t5 import T5Tokenizer, t5_encoder

CORPUS = [
    "",
    " ",
    "a red apple",
    "  A Red   APPLE\n\ton the  house ",
    "painting, (xyz:1.3) [dog] it's 42!",
    "日本語 café 🍎 e\u0301",
    "a</s> dog <extra_id_1><pad> <unk>",
    "▁a ▁▁ dog",
    "supercalifragilistic" * 20,
    "a red apple on a boat " * 100,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("t5") / "tokenizer_3"
    unigram_tokenizer(target)
    return target


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return random(tiny_t5, 0, len(reference(folder)))


def reference(folder: Path) -> Any:
    from transformers import T5TokenizerFast

    return T5TokenizerFast.from_pretrained(folder)


class Graph:
    """The exported encoder, played by torch; it counts how often it is asked."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.asked = 0

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self.asked += 1
        with torch.no_grad():
            states = self._model(torch.from_numpy(feeds["input_ids"])).last_hidden_state
        return {"last_hidden_state": states.numpy()}


def embedded(model: Any, tokenizer: T5Tokenizer, text: str, **options: Any) -> np.ndarray:
    read_text = chunks_of(tokenizer, text, **options)
    encoded = t5_encoder(Graph(model)).encode(read_text, read_text.length)
    return encoded["encoder_hidden_states"]


def diffusers_embedding(model: Any, folder: Path, text: str, length: int) -> np.ndarray:
    from diffusers import StableDiffusion3Pipeline

    parts = SimpleNamespace(
        text_encoder_3=model, tokenizer_3=reference(folder), tokenizer_max_length=77
    )
    embed = StableDiffusion3Pipeline._get_t5_prompt_embeds
    with torch.no_grad():
        return embed(parts, text, 1, length, "cpu", torch.float32).numpy()


@pytest.mark.parametrize("length", [2, 16, 256, 512])
@pytest.mark.parametrize("text", CORPUS)
def test_ids_equal_transformers(folder: Path, text: str, length: int) -> None:
    expected = reference(folder)(
        text, padding="max_length", max_length=length, truncation=True
    ).input_ids
    tokenizer = T5Tokenizer(folder).of_length(length)
    chunks = chunks_of(tokenizer, text, syntax="plain", long_prompt="truncate").chunks
    assert [chunk.ids.tolist() for chunk in chunks] == [[expected]]
    assert chunks[0].ids.dtype == np.int64


def test_a_normalizer_of_the_file_is_heeded(folder: Path, tmp_path: Path) -> None:
    """The published file has SentencePiece's own; whatever it is, it stands in the file."""
    from tokenizers import Tokenizer, normalizers
    from transformers import PreTrainedTokenizerFast

    changed = Tokenizer.from_file(str(folder / "tokenizer.json"))
    changed.normalizer = normalizers.NFKC()
    changed.enable_padding(length=40)
    changed.enable_truncation(8)
    file = tmp_path / "tokenizer.json"
    changed.save(str(file))
    other = PreTrainedTokenizerFast(tokenizer_file=str(file), pad_token="<pad>", eos_token="</s>")
    for text in ["ａ ｒｅｄ ａｐｐｌｅ ﬁsh ½", *CORPUS]:
        expected = other(text, padding="max_length", max_length=64, truncation=True).input_ids
        tokenizer = T5Tokenizer(tmp_path, 64)
        (chunk,) = chunks_of(tokenizer, text, syntax="plain", long_prompt="truncate").chunks
        assert chunk.ids.tolist() == [expected]


@pytest.mark.parametrize("length", [16, 256])
@pytest.mark.parametrize("text", ["", "a red apple on a boat", "dog, " * 300])
def test_plain_text_is_diffusers_bit_for_bit(
    model: Any, folder: Path, text: str, length: int
) -> None:
    tokenizer = T5Tokenizer(folder, length)
    ours = embedded(model, tokenizer, text, long_prompt="truncate")
    np.testing.assert_array_equal(ours, diffusers_embedding(model, folder, text, length))


def test_weights_multiply_their_tokens_rows(model: Any, folder: Path) -> None:
    tokenizer = T5Tokenizer(folder, 16)
    (chunk,) = chunks_of(tokenizer, "a (red:1.5) [apple]").chunks
    plain = embedded(model, tokenizer, "a red apple")
    assert chunk.ids.tolist() == chunks_of(tokenizer, "a red apple").chunks[0].ids.tolist()
    np.testing.assert_allclose(chunk.weights[:4], [1, 1.5, 1 / 1.1, 1])
    assert (chunk.weights[4:] == 1).all()
    weighted = embedded(model, tokenizer, "a (red:1.5) [apple]")
    np.testing.assert_allclose(weighted, plain * chunk.weights[None, :, None], rtol=1e-6)
    assert chunks_of(tokenizer, "a (red:1.5) [apple]", syntax="plain").length == 2


def test_a_text_without_room_is_read_in_chunks(model: Any, folder: Path) -> None:
    tokenizer = T5Tokenizer(folder, 8)
    text = "a dog in a house on a mountain"
    chunks = chunks_of(tokenizer, text).chunks
    ids = [number for chunk in chunks for number in chunk.ids[0] if number > 1]
    assert ids == [piece.id for piece in tokenizer.pieces(text)]
    assert all(chunk.ids.shape == (1, 8) for chunk in chunks)
    assert embedded(model, tokenizer, text).shape == (1, 8 * len(chunks), 64)


def test_what_does_not_fit_is_named(folder: Path) -> None:
    tokenizer = T5Tokenizer(folder, 4)
    assert chunks_of(tokenizer, "a red apple", long_prompt="stop").length == 1
    with pytest.raises(PromptError, match="5 tokens long and 4 fit; too much: house"):
        chunks_of(tokenizer, "a red apple house", long_prompt="stop")
    (line,) = chunks_of(tokenizer, "a red apple house", long_prompt="truncate").dropped
    assert line == "prompt is 5 tokens long and 4 fit; dropped: house"


def test_prompts_are_conditioned_as_clips_are(model: Any, folder: Path) -> None:
    """The negative prompt is padded to as many chunks; clip_skip is none of T5's business."""
    tokenizer, graph = T5Tokenizer(folder, 8), Graph(model)

    def prompt(text: str) -> Any:
        return tokenized(lambda part: chunks_of(tokenizer, part), text, 4)

    found = conditioned(
        t5_encoder(graph),
        prompt("a [dog:cat:2] BREAK house"),
        prompt(""),
        guidance=classifier_free(2.0),
        extra_inputs=lambda branch: {},
        clip_skip=1,
    )
    assert list(found.order) == [0, 0, 1, 1]
    assert graph.asked == 4  # dog, cat, house, and the empty text, each once
    rows = found.at(3).batch([UNCONDITIONAL, CONDITIONAL])["encoder_hidden_states"]
    assert rows.shape == (2, 16, 64)
    for row, text in zip(rows, ("", "a cat"), strict=True):
        expected = diffusers_embedding(model, folder, text, 8)
        np.testing.assert_array_equal(row[None, :8], expected)


@pytest.mark.parametrize("length", [1, 0, -3, 513])
def test_lengths_that_t5_was_never_shown_are_refused(folder: Path, length: int) -> None:
    with pytest.raises(SettingError, match="max_sequence_length"):
        T5Tokenizer(folder, length)
    with pytest.raises(SettingError, match=f"max_sequence_length is {length}; give 2 to 512"):
        T5Tokenizer(folder).of_length(length)


@pytest.mark.parametrize("damage", ["missing", "not JSON", "foreign"])
def test_bad_folders_are_named(folder: Path, tmp_path: Path, damage: str) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    if damage == "foreign":
        content["model"]["vocab"][1][0] = "<end>"
        content["added_tokens"] = []
        content["post_processor"] = None
    if damage != "missing":
        text = "{" if damage == "not JSON" else json.dumps(content)
        (tmp_path / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=tmp_path.name):
        T5Tokenizer(tmp_path)


def test_a_graph_of_another_encoder_is_named(folder: Path) -> None:
    text = chunks_of(T5Tokenizer(folder), "a dog")
    with pytest.raises(EngineError, match="last_hidden_state"):
        t5_encoder(lambda feeds: {"text_embeds": feeds["input_ids"]}).encode(text, 1)
