"""A tokenizer's OpenVINO graphs, which openvino-genai reads prompts by."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_log = logging.getLogger("pleinair.export")

_END_OF_WORD = b"</w>"
# Of a tokenizer's added tokens so many are tried: T5 has a hundred that differ by a number.
_TRIED = 16


def write(tokenizer: Any, folder: Path) -> None:
    """Write `openvino_tokenizer.xml` and `openvino_detokenizer.xml` of transformers' tokenizer.

    Where the graph gives other ids for the tokenizer's added tokens neither is written, and one
    line says so: openvino-genai would paint other words, and refuses a folder without them.
    """
    import openvino
    from openvino_tokenizers import convert_tokenizer

    encoder, decoder = convert_tokenizer(tokenizer, with_detokenizer=True)
    for node in encoder.get_ordered_ops():
        if node.get_type_name() == "BPETokenizer":
            _end_added_tokens(node)
    differs = _differs(encoder, tokenizer)
    if differs is not None:
        _log.warning(
            "%s: no openvino_tokenizer.xml, because openvino-tokenizers reads %r otherwise than "
            "the checkpoint's tokenizer; openvino-genai cannot paint with this folder",
            folder.name,
            differs,
        )
        return
    openvino.save_model(encoder, folder / "openvino_tokenizer.xml")
    openvino.save_model(decoder, folder / "openvino_detokenizer.xml")


def _end_added_tokens(node: Any) -> None:
    """Let a byte-pair node know added tokens with the mark that it puts behind every word.

    Its last inputs are the added tokens' texts, as where each begins and ends among characters, and
    their ids; the sixth to eighth are the vocabulary's.
    """
    if node.get_attributes()["end_suffix"].encode() != _END_OF_WORD or node.get_input_size() < 18:
        return
    first = node.get_input_size() - 4
    ids = _data(node, first + 3).tolist()
    added = [text + _END_OF_WORD for text in _texts(node, first)]
    _put(node, first, added)
    # One that the vocabulary has twice, "!" and "!</w>", is the added one wherever it stands alone.
    vocabulary = _texts(node, 5)
    place = {text: number for number, text in enumerate(vocabulary)}
    for number, text in zip(ids, added, strict=True):
        other = place.get(text, number)
        vocabulary[number], vocabulary[other] = vocabulary[other], vocabulary[number]
    _put(node, 5, vocabulary)


def _data(node: Any, number: int) -> Any:
    return node.input_value(number).get_node().get_data()


def _texts(node: Any, first: int) -> list[bytes]:
    begins, ends, characters = (_data(node, first + i) for i in range(3))
    joined = characters.tobytes()
    return [joined[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _put(node: Any, first: int, texts: list[bytes]) -> None:
    from openvino import opset13 as opset

    edges = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    characters = np.frombuffer(b"".join(texts), np.uint8)
    for i, values in enumerate((edges[:-1], edges[1:], characters)):
        node.input(first + i).replace_source_output(opset.constant(values).output(0))


def _differs(encoder: Any, tokenizer: Any) -> str | None:
    """The first text that the graph reads otherwise than the tokenizer; None: all are the same."""
    import openvino

    graph = openvino.Core().compile_model(encoder, "CPU")
    for text in _samples(tokenizer):
        right = list(tokenizer(text).input_ids)
        try:
            (found,) = next(iter(graph([text]).values()))
        except RuntimeError:
            return text
        if found[: len(right)].tolist() != right:
            return text
    return None


def _samples(tokenizer: Any) -> Iterator[str]:
    yield "a red apple, in the rain."
    tokens = tokenizer.added_tokens_decoder.values()
    # Nobody writes a mark, as <pad>, in a prompt; but "!" is one that stands for itself, too.
    words = [str(token) for token in tokens if not (token.special and str(token).startswith("<"))]
    for word in words[-_TRIED:]:
        yield from (f"a {word} on {word.upper()}, {word}", f"x{word}y", word)
