"""From a prompt to what the UNet attends to: chunks, weights, lengths, steps."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints import bpe_tokenizer, bpe_tokens
from pleinair.runtime.denoise.conditioning import Conditioning, Schedule
from pleinair.runtime.denoise.guidance import (
    CONDITIONAL,
    UNCONDITIONAL,
    Guidance,
    classifier_free,
)
from pleinair.runtime.errors import PromptError, SettingError
from pleinair.runtime.families.prompts import conditioned
from pleinair.runtime.text import chunks
from pleinair.runtime.text import prompt as prompts
from pleinair.runtime.text.chunks import Chunk
from pleinair.runtime.text.encoder import TextEncoder
from pleinair.runtime.text.prompt import TokenizedPrompt
from pleinair.runtime.text.tokenizer import ClipTokenizer

WIDTH = 6


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ClipTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    bpe_tokenizer(folder)
    return ClipTokenizer(folder)


class Graph:
    """A text encoder whose rows tell their token and place; it counts how often it is asked."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.of_token = generator.normal(0.3, 1, (1000, WIDTH)).astype(np.float32)
        self.of_place = generator.normal(0, 1, (77, WIDTH)).astype(np.float32)
        self.asked = 0

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self.asked += 1
        last = self.of_token[feeds["input_ids"]] + self.of_place[None]
        return {"last_hidden_state": last, "clip_skip.1": -last}


def chunks_of(tokenizer: ClipTokenizer, text: str, **options: Any) -> list[Chunk]:
    return list(chunks.chunks_of(tokenizer, text, **options).chunks)


def tokenized(
    tokenizer: ClipTokenizer,
    text: str,
    steps: int,
    syntax: str = "webui",
    long_prompt: str = "chunk",
) -> TokenizedPrompt:
    def read(one: str) -> chunks.ChunkedText:
        return chunks.chunks_of(tokenizer, one, syntax=syntax, long_prompt=long_prompt)

    return prompts.tokenized(read, text, steps, syntax)


def condition(
    encoder: TextEncoder,
    read: TokenizedPrompt,
    negative: TokenizedPrompt | None,
    guidance: Guidance,
    clip_skip: int | None = None,
) -> Schedule:
    return conditioned(
        encoder,
        read,
        negative,
        guidance=guidance,
        extra_inputs=lambda branch: {},
        clip_skip=clip_skip,
    )


GUIDED = classifier_free(7.5)


def embeddings(schedule: Schedule, step: int = 0) -> np.ndarray:
    """Those of the negative prompt, where there is guidance, and of the prompt: a row each."""
    conditioning = schedule.at(step)
    return conditioning.batch(list(conditioning.branches))["encoder_hidden_states"]


def spelled(ids: Iterable[int]) -> list[str]:
    tokens = bpe_tokens()
    return [tokens[i].removesuffix("</w>") for i in ids]


def words(tokenizer: ClipTokenizer, chunk: Chunk) -> list[str]:
    """A chunk's tokens between the marks, as text."""
    ids = chunk.ids[0].tolist()
    assert ids[0] == tokenizer.bos
    end = ids.index(tokenizer.eos)
    assert set(ids[end + 1 :]) <= {tokenizer.pad}
    return spelled(ids[1:end])


def sizes(tokenizer: ClipTokenizer, prompt: str, **options: Any) -> list[int]:
    chunks = chunks_of(tokenizer, prompt, **options)
    for chunk in chunks:
        assert chunk.ids.shape == (1, 77)
        assert chunk.ids.dtype == np.int64
        assert chunk.weights.shape == (77,)
    return [len(words(tokenizer, chunk)) for chunk in chunks]


def apples(count: int) -> str:
    return " ".join(["apple"] * count)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [0]),
        (apples(75), [75]),
        (apples(76), [75, 1]),
        (apples(150), [75, 75]),
        (apples(151), [75, 75, 1]),
        ("apple BREAK boat", [1, 1]),
        ("BREAK boat", [0, 1]),
        ("apple BREAK", [1]),
        ("BREAK", [0]),
        ("apple BREAK BREAK boat", [1, 0, 1]),
        (f"{apples(80)} BREAK boat", [75, 5, 1]),
        # A comma up to 20 tokens before the border: what is behind it moves on.
        (f"{apples(60)}, {apples(30)}", [61, 30]),
        (f"{apples(55)}, {apples(30)}", [56, 30]),
        (f"{apples(54)}, {apples(30)}", [75, 10]),
        (f"{apples(74)}, {apples(30)}", [75, 30]),
        # The last comma decides, also where it is the first token too many.
        (f"{apples(60)}, {apples(5)}, {apples(30)}", [67, 30]),
        (f"{apples(60)}, {apples(14)}, {apples(3)}", [75, 4]),
        (f"{apples(60)}, {apples(15)}", [61, 15]),
        (f"{apples(60)}, {apples(14)}", [75]),
        # Weights stand between words, not between chunks.
        (f"({apples(60)}:1.2), [{apples(30)}]", [61, 30]),
    ],
    ids=lambda value: value if isinstance(value, list) else f"{value[:20]}…{len(value)}",
)
def test_where_a_prompt_is_cut(tokenizer: ClipTokenizer, prompt: str, expected: list[int]) -> None:
    assert sizes(tokenizer, prompt) == expected


def test_no_token_is_lost_or_doubled(tokenizer: ClipTokenizer) -> None:
    prompt = ", ".join(f"{apples(n % 9)} boat {n}" for n in range(60))
    found = [word for chunk in chunks_of(tokenizer, prompt) for word in words(tokenizer, chunk)]
    whole = spelled([piece.id for piece in tokenizer.pieces(prompt)])
    assert len(found) > 3 * 75
    assert found == whole


def test_weights_stand_at_their_tokens(tokenizer: ClipTokenizer) -> None:
    (chunk,) = chunks_of(tokenizer, "a (red:1.5) apple, [on] boat")
    assert words(tokenizer, chunk) == ["a", "red", "apple", ",", "on", "boat"]
    expected = [1, 1, 1.5, 1, 1, 1 / 1.1, 1, *[1] * 70]
    assert chunk.weights == pytest.approx(expected)


def test_padding_is_the_tokenizer_s(tmp_path: Path) -> None:
    import json

    bpe_tokenizer(tmp_path)
    settings = json.loads((tmp_path / "special_tokens_map.json").read_text())
    settings["pad_token"] = "!"
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(settings))
    tokenizer = ClipTokenizer(tmp_path)
    first, second = chunks_of(tokenizer, "apple BREAK boat")
    for chunk in (first, second):
        assert chunk.ids[0, 2] == tokenizer.eos
        assert set(chunk.ids[0, 3:]) == {0}


def test_plain_syntax_is_diffusers_text(tokenizer: ClipTokenizer) -> None:
    prompt = r"(a red:1.5) [apple] BREAK \( boat"
    (chunk,) = chunks_of(tokenizer, prompt, syntax="plain")
    assert np.array_equal(chunk.ids, tokenizer(prompt).ids)
    assert set(chunk.weights) == {1.0}
    read = tokenized(tokenizer, "[red:blue:2] apple", 4, "plain")
    assert len(read.texts) == 1


def test_truncate_names_what_it_drops(
    tokenizer: ClipTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = f"{apples(75)} (boat apple:1.2) Apple"
    assert sizes(tokenizer, prompt, long_prompt="truncate") == [75]
    tokenized(tokenizer, prompt, 4, long_prompt="truncate")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == "prompt is 80 tokens long and 77 fit; dropped: boat apple Apple"


def test_stop_names_what_does_not_fit(tokenizer: ClipTokenizer) -> None:
    assert sizes(tokenizer, apples(75), long_prompt="stop") == [75]
    # A BREAK is asked for; the words on either side of it fit.
    assert sizes(tokenizer, f"{apples(75)} BREAK boat", long_prompt="stop") == [75, 1]
    with pytest.raises(PromptError, match=r"78 tokens.*: boat"):
        tokenized(tokenizer, f"{apples(75)} boat", 4, long_prompt="stop")
    with pytest.raises(PromptError, match=": boat"):  # some step would see it
        tokenized(tokenizer, f"[tree:{apples(75)} boat:3]", 4, long_prompt="stop")


def test_chunks_are_told_in_one_line(
    tokenizer: ClipTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pleinair")
    tokenized(tokenizer, apples(75), 4)
    assert not caplog.records
    tokenized(tokenizer, f"[red|blue] {apples(160)}", 4)
    assert [record.message for record in caplog.records] == ["prompt is read in 3 chunks"]


def test_weights_multiply_rows_and_keep_the_mean(tokenizer: ClipTokenizer) -> None:
    """webui's formula, written out again in torch."""
    import torch

    graph = Graph()
    prompt = "(red:1.4) apple BREAK a [blue] (((boat)))"
    found = TextEncoder(graph).embedding(chunks_of(tokenizer, prompt))
    parts = []
    for text, weights in (
        ("red apple", [1, 1.4, 1]),
        ("a blue boat", [1, 1, 1 / 1.1, 1.1**3]),
    ):
        plain = torch.from_numpy(graph({"input_ids": tokenizer(text).ids})["last_hidden_state"])
        multipliers = torch.ones(77)
        multipliers[: len(weights)] = torch.tensor(weights)
        weighted = plain * multipliers.reshape(1, 77, 1)
        parts.append(weighted * (plain.mean() / weighted.mean()))
    expected = torch.cat(parts, dim=1).numpy()
    assert found.dtype == np.float32
    assert found.shape == (1, 154, WIDTH)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_extreme_weights_stay_numbers(tokenizer: ClipTokenizer) -> None:
    encoder = TextEncoder(Graph())
    for weight in ("0", "-1", "-0.0", "9" * 400):
        prompt = f"(apple:{weight}) (((boat:{weight}):{weight}):0)"
        assert np.isfinite(encoder.embedding(chunks_of(tokenizer, prompt))).all()


def test_up_to_77_tokens_nothing_changes(exported_openvino: Path) -> None:
    """Bit for bit what the graph gives for transformers' own ids, every layer."""
    from transformers import CLIPTokenizer

    from pleinair.runtime import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        exported_openvino, engine="openvino", profile="exact"
    )
    graph = pipe.parts.graph("text_encoder", {"input_ids": (1, 77)})
    reference = CLIPTokenizer.from_pretrained(exported_openvino / "tokenizer")
    encoder = TextEncoder(graph)
    for prompt in ["", "a red apple, on the boat: 1.5 | x {y}", apples(75)]:
        ids = np.array([reference(prompt, padding="max_length", max_length=77).input_ids])
        assert ids.shape == (1, 77)
        outputs = graph({"input_ids": ids})
        layers = next(iter(outputs.values())), outputs["clip_skip.1"], outputs["clip_skip.2"]
        for skip, output in enumerate(layers):
            read = tokenized(pipe.family.tokenizer, prompt, 20)
            found = condition(encoder, read, read, Guidance(), clip_skip=skip)
            assert np.array_equal(embeddings(found), output)
            assert found.order == [0] * 20


def test_negative_prompts_are_padded_with_the_empty_text(tokenizer: ClipTokenizer) -> None:
    encoder = TextEncoder(Graph())
    long, short = tokenized(tokenizer, apples(160), 2), tokenized(tokenizer, "boat", 2)
    empty = encoder.embedding(chunks_of(tokenizer, ""))
    for prompt, negative, row in ((long, short, 0), (short, long, 1)):
        found = embeddings(condition(encoder, prompt, negative, GUIDED))
        assert found.shape == (2, 3 * 77, WIDTH)
        assert np.array_equal(found[row, :77], encoder.embedding(chunks_of(tokenizer, "boat"))[0])
        assert np.array_equal(found[row, 77:154], empty[0])
        assert np.array_equal(found[row, 154:], empty[0])
        assert np.array_equal(found[1 - row], encoder.embedding(long.texts[0].chunks)[0])


def test_without_guidance_the_negative_prompt_is_not_read(tokenizer: ClipTokenizer) -> None:
    graph = Graph()
    prompt, negative = tokenized(tokenizer, "boat", 2), tokenized(tokenizer, apples(160), 2)
    found = condition(TextEncoder(graph), prompt, negative, Guidance())
    assert embeddings(found).shape == (1, 77, WIDTH)
    assert graph.asked == 1


def test_clip_skip_is_for_the_prompt_alone(tokenizer: ClipTokenizer) -> None:
    graph = Graph()
    encoder = TextEncoder(graph)
    read = tokenized(tokenizer, "boat", 2)
    found = condition(encoder, read, read, GUIDED, clip_skip=1).at(0).branches
    without = found[UNCONDITIONAL]["encoder_hidden_states"]
    assert np.array_equal(found[CONDITIONAL]["encoder_hidden_states"], -without)
    with pytest.raises(SettingError, match="0 to 1"):
        condition(encoder, read, read, Guidance(), clip_skip=2)


def test_each_step_gets_its_text_and_each_text_is_encoded_once(tokenizer: ClipTokenizer) -> None:
    graph = Graph()
    encoder = TextEncoder(graph)
    prompt = tokenized(tokenizer, "[red|blue] apple", 6)
    negative = tokenized(tokenizer, "[tree:boat:4]", 6)
    found = condition(encoder, prompt, negative, GUIDED)
    assert graph.asked == 4
    assert len(found.each) == 4
    assert [found.at(step).keys[CONDITIONAL] for step in range(3)] == [0, 1, 0]
    assert [found.at(step).keys[UNCONDITIONAL] for step in (3, 4)] == [0, 1]
    for step in range(6):
        text = ("red apple", "blue apple")[step % 2]
        against = "tree" if step < 4 else "boat"
        expected = [encoder.embedding(chunks_of(tokenizer, part)) for part in (against, text)]
        assert np.array_equal(embeddings(found, step), np.concatenate(expected))


def test_texts_of_different_length_have_one_shape(tokenizer: ClipTokenizer) -> None:
    read = tokenized(tokenizer, f"[boat:{apples(100)}:2]", 4)
    found = condition(TextEncoder(Graph()), read, read, Guidance())
    assert {embeddings(found, step).shape for step in range(4)} == {(1, 154, WIDTH)}


def test_the_unet_takes_several_chunks(exported_openvino: Path) -> None:
    """The exported UNet accepts 154 tokens, and what is in the second chunk matters."""
    from pleinair.runtime import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        exported_openvino, engine="openvino", profile="exact"
    )
    encoder = TextEncoder(pipe.parts.graph("text_encoder", {"input_ids": (1, 77)}))

    def embedding(prompt: str) -> np.ndarray:
        read = tokenized(pipe.family.tokenizer, prompt, 1)
        return embeddings(condition(encoder, read, read, Guidance()))

    one, other = embedding(f"{apples(75)} boat"), embedding(f"{apples(75)} house")
    shapes = {"sample": (1, 4, 8, 8), "encoder_hidden_states": one.shape}
    unet = pipe.parts.graph("unet", shapes)
    feeds = {"sample": np.ones((1, 4, 8, 8), np.float32), "timestep": np.asarray(500)}
    first, second = (
        next(iter(unet({**feeds, "encoder_hidden_states": value}).values()))
        for value in (one, other)
    )
    assert first.shape == (1, 4, 8, 8)
    assert not np.array_equal(first, second)


def test_no_negative_prompt_may_be_zeros(tokenizer: ClipTokenizer) -> None:
    read = tokenized(tokenizer, "boat", 2)
    without, prompted = embeddings(condition(TextEncoder(Graph()), read, None, GUIDED))
    assert not without.any()
    assert prompted.any()


def test_steps_are_counted_from_zero() -> None:
    first, second = Conditioning({}, {"one": 0}), Conditioning({}, {"one": 1})
    schedule = Schedule([first, second], [0, 1, 1])
    assert [schedule.at(step).keys["one"] for step in range(3)] == [0, 1, 1]
