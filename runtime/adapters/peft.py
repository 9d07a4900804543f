"""PEFT's configuration of a LoRA file: ranks and alphas that the tensors do not tell."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from ..errors import AdapterError, shown
from ..files import conform, parse_json, read_json

_IN_METADATA = "lora_adapter_metadata"  # where diffusers keeps it
_BESIDE = "adapter_config.json"  # where PEFT keeps it
_PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_EXPRESSION = re.compile(r"[\\^$*+?()\[\]{}|]")

_Rank = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_Alpha = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Value = TypeVar("Value")


class _Config(msgspec.Struct):
    """What of LoraConfig, LoHaConfig and LoKrConfig sets the scale."""

    r: _Rank | None = None
    lora_alpha: _Alpha | None = None
    alpha: _Alpha | None = None
    rank_pattern: dict[str, _Rank] | None = None
    alpha_pattern: dict[str, _Alpha] | None = None
    use_rslora: bool | None = None


@dataclass(frozen=True)
class Scaling:
    """A layer's alpha and rank, where the configuration has them.

    stabilised: the scale falls with the root of the rank (Kalajdzievski 2023).
    """

    alpha: float | None = None
    rank: int | None = None
    stabilised: bool = False

    def scale(self, rank: int | None) -> float:
        """What the factors' product is multiplied with; `rank` is what the factors tell."""
        rank = rank or self.rank
        if self.alpha is None or not rank:
            return 1.0
        return float(self.alpha / (rank**0.5 if self.stabilised else rank))


def settings_beside(path: Path) -> Path | None:
    """The file that PEFT keeps an adapter's configuration in; None for files of others.

    The name is fixed: a stranger's file beside it must not set this file's scale.
    """
    return path.with_name(_BESIDE) if path.stem == "adapter_model" else None


@dataclass(frozen=True)
class Settings:
    """The configuration of each part; under "" one that holds for all of a file."""

    parts: Mapping[str, _Config]

    @classmethod
    def read(cls, path: Path, metadata: Mapping[str, str]) -> "Settings":
        """In the file's metadata, or beside it; AdapterError where it is damaged."""
        if _IN_METADATA in metadata:
            where = f"{path}: its {_IN_METADATA}"
            return cls.of(parse_json(metadata[_IN_METADATA], where, error=AdapterError), where)
        if beside := settings_beside(path):
            return cls.of(read_json(beside, optional=True, error=AdapterError), str(beside))
        return cls({})

    @classmethod
    def of(cls, content: Any, where: str) -> "Settings":
        if not isinstance(content, dict):
            raise AdapterError(f"{where}: not a JSON object; get the file anew")
        parts: dict[str, dict[str, Any]] = {}
        for key, value in content.items():
            part, _, name = key.partition(".")
            part, name = (part, name) if part in _PARTS else ("", key)
            parts.setdefault(part, {})[name] = value
        configs = {
            part: conform(one, _Config, where, "get the file anew", error=AdapterError)
            for part, one in parts.items()
        }
        for config in configs.values():
            for pattern in (*(config.rank_pattern or ()), *(config.alpha_pattern or ())):
                if _EXPRESSION.search(pattern):
                    raise AdapterError(
                        f"{where}: {shown(pattern)!r} stands for several layers, which is not "
                        "understood here; save the file with a name for each"
                    )
        return cls(configs)

    def of_layer(self, part: str, layer: str) -> Scaling:
        """A layer's scaling, which may differ from its part's."""
        config = self.parts.get(part, self.parts.get("", _Config()))
        alpha = config.alpha if config.lora_alpha is None else config.lora_alpha
        return Scaling(
            _named(config.alpha_pattern, layer, alpha),
            _named(config.rank_pattern, layer, config.r),
            bool(config.use_rslora),
        )


def _named(
    patterns: Mapping[str, Value] | None, layer: str, otherwise: Value | None
) -> Value | None:
    """PEFT matches the end of a layer's name."""
    for pattern, value in (patterns or {}).items():
        end = pattern.replace(".", "_")
        if layer == end or layer.endswith(f"_{end}"):
            return value
    return otherwise
