"""Textual inversion: new words, each of one or several vectors (Gal et al. 2022).

A word's vectors become rows of the text encoder's embedding matrix, and tokens of the tokenizer:
"word", "word_1", "word_2" …, as in diffusers. In a prompt the word alone stands for all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AdapterError, shown
from ..graphs.changes import Array, Changes, Shapes
from . import content, pickles
from .recognition import recognized

_MATRIX = "embeddings.token_embedding.weight"
# Stable Diffusion XL's two encoders, as kohya and webui call them in a file, and older trainers of
# diffusers.
_PARTS = {
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
    "text_encoders_0": "text_encoder",
    "text_encoders_1": "text_encoder_2",
}
# Keys that stand for "the vectors" and are no word.
_NAMELESS = {"emb_params", "*", "string_to_param.*", *_PARTS}
_MOST = 75
"""Vectors of a word: what a text encoder reads at once, as of CLIP."""
_LONGEST = 200  # letters of a word


@dataclass(frozen=True)
class Embedding:
    """One file.

    word: what a prompt says to mean it.
    vectors: part -> float32 (vectors, width).
    """

    path: Path
    word: str
    vectors: Mapping[str, Array]

    @property
    def tokens(self) -> list[str]:
        count = len(next(iter(self.vectors.values())))
        return [self.word, *(f"{self.word}_{i}" for i in range(1, count))]


@dataclass(frozen=True)
class Words:
    """Embeddings that a tokenizer knows.

    rows: token -> its id, which is its row in the embedding matrix.
    """

    embeddings: Sequence[Embedding]
    rows: Mapping[str, int]

    def changes(self, models: Mapping[str, Shapes]) -> dict[str, Changes]:
        """The embedding matrix of each text encoder, with the words' vectors in their rows.

        Raises AdapterError where a file is for encoders of another width or number.
        """
        encoders = [part for part in models if part.startswith("text_encoder")]
        for item in self.embeddings:
            _require_fit(item, {part: models[part] for part in encoders})
        return {part: {_MATRIX: _Rows(part, self)} for part in encoders}


@dataclass(frozen=True)
class _Rows:
    part: str
    words: Words

    def __call__(self, matrix: Array) -> Array:
        count = max(len(matrix), 1 + max(self.words.rows.values()))
        larger = np.zeros((count, matrix.shape[1]), np.float32)
        larger[: len(matrix)] = matrix
        for item in self.words.embeddings:
            rows = [self.words.rows[token] for token in item.tokens]
            larger[rows] = item.vectors[self.part]
        return larger


Named = str | Path | tuple[str | Path, str]
"""A file, a file with the word that shall mean it, or both in one text: "FILE:WORD"."""


def opened(named: Named) -> Embedding:
    """The embedding that a user names; errors as in `read`."""
    if isinstance(named, tuple):
        return read(*named)
    path, colon, word = str(named).rpartition(":")
    # A colon may be the file's own, as after a drive's letter.
    if not colon or content.is_file(named) or not content.is_file(path):
        return read(named)
    return read(path, word)


def read(path: str | Path, word: str | None = None) -> Embedding:
    """Read a file of textual inversion, `.safetensors`, `.pt`, `.bin` or `.pti`.

    word: what prompts say; None is the file's own word or, where it has none, the file's name.
    Raises AdapterError where the file is unreadable, unsafe, or holds no vectors.
    """
    path = Path(path)
    return of(path, content.read(path)[0], word)


def of(path: Path, found: Any, word: str | None = None) -> Embedding:
    """The embedding that the object in a file is; errors as in `read`."""
    named, given = _vectors(found)
    vectors = {part: _rows(path, value) for part, value in given.items()}
    if not vectors or len({len(value) for value in vectors.values()}) != 1:
        what = _many(found) or recognized(found if isinstance(found, Mapping) else ())
        reason = f"it is {what}" if what else "get another file"
        raise AdapterError(f"{path}: holds no vectors of textual inversion; {reason}")
    if not all(np.isfinite(value).all() for value in vectors.values()):
        raise AdapterError(f"{path}: holds values that are no numbers; get it anew")
    word = word if word is not None else named or path.stem
    if not word.strip() or word != word.strip() or len(word) > _LONGEST:
        raise AdapterError(f"{path}: {shown(word)!r} cannot be a word; name one, as in FILE:WORD")
    return Embedding(path, word, vectors)


def _rows(path: Path, value: Any) -> Array:
    """Vectors one below the other; AdapterError where they are none."""
    if not isinstance(value, np.ndarray) or value.ndim not in (1, 2) or value.size == 0:
        raise AdapterError(f"{path}: holds no vectors of textual inversion; get another file")
    rows: Array = np.atleast_2d(value)
    if len(rows) > _MOST:
        raise AdapterError(
            f"{path}: has {len(rows)} vectors, and a text encoder reads {_MOST} at once; "
            "get another file"
        )
    return rows.astype(np.float32)


def _vectors(found: Any) -> tuple[str | None, dict[str, Any]]:
    """The file's own word, and part -> vectors, in the layouts of webui, kohya and diffusers."""
    if isinstance(found, np.ndarray):
        return None, {"text_encoder": found}
    if not isinstance(found, Mapping):
        return None, {}
    if "string_to_param" in found:
        inner = pickles.parameters(found["string_to_param"])
        name = found.get("name")
        word = name if isinstance(name, str) else None
        values = list(inner.values()) if isinstance(inner, Mapping) else []
        return word, {"text_encoder": values[0]} if len(values) == 1 else {}
    both = {part: found[key] for key, part in _PARTS.items() if key in found}
    if both:
        return None, both
    arrays = {key: value for key, value in found.items() if isinstance(value, np.ndarray)}
    if len(arrays) != 1:
        return None, {}
    key, value = next(iter(arrays.items()))
    return None if key in _NAMELESS else str(key), {"text_encoder": value}


def _many(found: Any) -> str:
    """What a file of several words is, which no other program reads either."""
    arrays = found.items() if isinstance(found, Mapping) else ()
    words = [shown(str(key), 40) for key, value in arrays if getattr(value, "ndim", 0) in (1, 2)]
    if 1 < len(words) < len(_PARTS) * 10 and not any("." in word for word in words):
        return f"a file of several words ({', '.join(words[:5])}); save each in a file of its own"
    return ""


def _require_fit(item: Embedding, encoders: Mapping[str, Shapes]) -> None:
    nameless = [part for part, shapes in encoders.items() if _MATRIX not in shapes]
    if nameless:
        raise AdapterError(
            f"the graph of the {nameless[0]} does not name its embedding matrix, so "
            f"{item.path.name} cannot be used; export the model anew, with pleinair-export"
        )
    theirs = {part: value.shape[1] for part, value in item.vectors.items()}
    ours = {part: shapes[_MATRIX][1] for part, shapes in encoders.items()}
    if theirs != ours:
        raise AdapterError(
            f"{item.path}: has vectors {_widths(theirs)} wide and the model needs {_widths(ours)}: "
            "it is for another model (768 is Stable Diffusion 1, 1024 is 2, 768 and 1280 is XL)"
        )


def _widths(widths: Mapping[str, int]) -> str:
    return " and ".join(str(width) for width in widths.values()) or "none"
