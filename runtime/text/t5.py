"""T5's text encoder, the third of Stable Diffusion 3: its tokenizer, and its last layer.

[Raffel et al. 2020]. It reads a text of any length, so that how many tokens a chunk has is a
choice: what is shorter is padded, and the padding is read as well, without a mask, as in
diffusers. Weights, BREAK and long texts are treated as CLIP's, by `chunks`.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from ..engines.protocol import Graph
from ..errors import BundleError, EngineError, Message, SettingError, shown
from ..files import conform, read_json
from .encoder import Array, Outputs, TextEncoder
from .tokenizer import Piece, check_text
from .vocabulary import Settings, add_tokens, check_rows, token_id, unframed

if TYPE_CHECKING:  # as in `tokenizer`
    from tokenizers import Tokenizer

MAX_SEQUENCE_LENGTH = 256
"""Tokens of a chunk where the caller says nothing, diffusers' default."""

_USUAL = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}

LONGEST = 512
"""More tokens T5 was never shown at once."""


class _TextModel(Struct):
    """T5's config, as far as its tokenizer has to fit it; transformers' default."""

    vocab_size: Annotated[int, Meta(ge=1, lt=2**31)] = 32128


class T5Tokenizer:
    """Turns a text into the ids of transformers' T5TokenizerFast.

    folder: holds `tokenizer.json`; the optional `tokenizer_config.json`, `special_tokens_map.json`
        and `added_tokens.json` name the tokens of end and padding, and added ones.
    max_sequence_length: ids of a chunk, 2 to 512, the end among them.
    rows: of the text encoder's embedding.
    Raises BundleError where a file is missing or unreadable, SettingError for another length.
    """

    lead = 0

    def __init__(
        self,
        folder: Path,
        max_sequence_length: int = MAX_SEQUENCE_LENGTH,
        rows: int | None = None,
    ) -> None:
        check_length(max_sequence_length)
        settings = Settings.read(folder, _USUAL)
        self._tokenizer = _load(folder / "tokenizer.json")
        add_tokens(self._tokenizer, settings, folder)
        if rows is not None:
            check_rows(self._tokenizer, rows, folder)
        self.max_length = max_sequence_length
        self.eos = token_id(self._tokenizer, settings.special["eos_token"], folder)
        self.pad = token_id(self._tokenizer, settings.special["pad_token"], folder)
        self.comma: int | None = self._tokenizer.token_to_id(",")

    @classmethod
    def fitting(cls, folder: Path, config: Mapping[str, Any], origin: Path) -> "T5Tokenizer":
        """That of a text encoder; as `ClipTokenizer.fitting`."""
        return cls(folder, rows=conform(config, _TextModel, origin).vocab_size)

    def of_length(self, max_sequence_length: int) -> "T5Tokenizer":
        """The same tokenizer for chunks of another length; raises SettingError as for this one."""
        check_length(max_sequence_length)
        other = copy.copy(self)
        other.max_length = max_sequence_length
        return other

    @property
    def room(self) -> int:
        """How many tokens fit before the mark of the end."""
        return self.max_length - 1

    def pieces(self, text: str) -> list[Piece]:
        """All tokens of a text, however many, without end and padding; PromptError as CLIP's."""
        check_text(text)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        offsets = zip(encoding.ids, encoding.offsets, strict=True)
        return [Piece(number, start) for number, (start, _) in offsets]

    def framed(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Up to `room` ids, ended and padded: int64 of shape (1, max_length)."""
        padding = [self.pad] * (self.room - len(ids))
        return np.array([[*ids, self.eos, *padding]], dtype=np.int64)


def check_length(max_sequence_length: int) -> None:
    """Raise SettingError for a number of tokens that no chunk may have."""
    if not isinstance(max_sequence_length, int) or not 2 <= max_sequence_length <= LONGEST:
        raise SettingError(
            Message(
                "{max_sequence_length} is {0}; give 2 to {1} tokens", max_sequence_length, LONGEST
            )
        )


def t5_encoder(graph: Graph) -> TextEncoder:
    """T5's encoder: float32 embeddings, (1, chunks x max_sequence_length, width).

    Weights multiply their tokens' rows, and change nothing else. clip_skip is CLIP's: ignored.
    graph: takes `input_ids` and gives `last_hidden_state`.
    """
    # T5's last norm does not centre: a mean so near to 0 says nothing of the embedding's scale.
    return TextEncoder(graph, _last_hidden_state, keep_mean=False)


def _last_hidden_state(outputs: Outputs, clip_skip: int | None) -> Array:
    if "last_hidden_state" not in outputs:
        raise EngineError("this model's T5 encoder gives no last_hidden_state; export it anew")
    return outputs["last_hidden_state"]


def _load(file: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    hint = (
        "save the checkpoint's with transformers' T5TokenizerFast, which makes it of spiece.model"
    )
    read_json(file, hint)  # regular, and JSON
    try:
        return unframed(Tokenizer.from_file(str(file)))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BundleError(
            f"{file}: unreadable tokenizer ({shown(str(error))}); copy it from the checkpoint"
        ) from error
