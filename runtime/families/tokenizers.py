"""The tokenizers of a model's folder, held against the text encoders that they are for."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from ..errors import BundleError
from ..files import conform
from ..model.bundle import Bundle
from ..text.t5 import T5Tokenizer
from ..text.tokenizer import POSITIONS, ClipTokenizer

Count = Annotated[int, Meta(ge=1, lt=2**31)]


class _ClipText(Struct):
    """CLIP's text model, as far as its tokenizer has to fit it; transformers' defaults."""

    vocab_size: Count = 49408
    max_position_embeddings: Annotated[int, Meta(ge=4, le=4096)] = POSITIONS


class _T5Text(Struct):
    vocab_size: Count = 32128


def clip_tokenizer(bundle: Bundle, part: str) -> ClipTokenizer:
    """That of one of CLIP's text models; raises BundleError where the two do not fit."""
    config = _config(bundle, part, _ClipText)
    folder = bundle.tokenizer(part.replace("text_encoder", "tokenizer"))
    return ClipTokenizer(folder, config.max_position_embeddings, config.vocab_size)


def t5_tokenizer(bundle: Bundle, part: str) -> T5Tokenizer:
    """That of T5; raises BundleError where the two do not fit."""
    folder = bundle.tokenizer(part.replace("text_encoder", "tokenizer"))
    return T5Tokenizer(folder, rows=_config(bundle, part, _T5Text).vocab_size)


def _config(bundle: Bundle, part: str, shape: Any) -> Any:
    return conform(bundle.config(part), shape, bundle.path / part / "config.json")


def check_pair(first: ClipTokenizer, second: ClipTokenizer) -> None:
    """Raise BundleError where a model's two tokenizers have other marks or lengths."""
    if (first.bos, first.eos, first.max_length) != (second.bos, second.eos, second.max_length):
        raise BundleError(
            "tokenizer and tokenizer_2 have other marks or lengths; take both from one model"
        )
