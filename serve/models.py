"""The models that a server offers, opened when they are asked for."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pleinair.runtime import Plan, StableDiffusionPipeline
from pleinair.runtime.engines.shelf import Shelf
from pleinair.runtime.errors import did_you_mean, shown
from pleinair.runtime.model import catalog
from pleinair.runtime.model.footprint import bytes_of

from .asked import Asked, Weighted
from .errors import Refusal, Unknown

_OPEN = 16
"""Pipelines kept open: each is a combination of model, profile and files, without its graphs."""

Key = tuple[str, str | None, tuple[Weighted, ...], tuple[Weighted, ...]]


class Models:
    """Models, LoRA files and ControlNets by the names that clients call them.

    A client names what is listed here, and nothing else: no path of a request reaches the disk.
    Compiled graphs are shared: what stays the same from one request to the next is not loaded anew.

    names: folders or catalog names; the first is what is painted with where none is asked for.
    loras: a folder of LoRA files. controlnets: folders of converted ControlNets.
    profile, max_memory, streams, options: as of `StableDiffusionPipeline.from_pretrained`.
    """

    def __init__(
        self,
        names: Sequence[str | Path],
        *,
        loras: Path | None = None,
        controlnets: Sequence[Path] = (),
        profile: str | None = None,
        max_memory: str | int | None = None,
        streams: int = 1,
        **options: Any,
    ) -> None:
        self.folders = _named([catalog.find(name) for name in names])
        self.loras = _named(_lora_files(loras))
        self.controlnets = _named(controlnets)
        self.profile, self.streams, self.options = profile, streams, options
        self.shelf = Shelf(bytes_of(max_memory))
        self._open: OrderedDict[Key, StableDiffusionPipeline] = OrderedDict()
        self._opening = threading.Lock()

    @property
    def first(self) -> str:
        return next(iter(self.folders))

    def named(self, name: str | None) -> str:
        """A model's name as it is listed; None is the first. Raises Unknown."""
        return self.first if name is None else _found(name, self.folders, "model", "model")

    def pipeline(self, asked: Asked) -> StableDiffusionPipeline:
        """The pipeline for a request, opened where it is not. Raises Refusal and PleinairError."""
        model, profile = self.named(asked.model), asked.profile or self.profile
        loras = tuple((_found(n, self.loras, "LoRA", "loras"), w) for n, w in asked.loras)
        nets = tuple(
            (_found(n, self.controlnets, "ControlNet", "controlnet"), w)
            for n, w in asked.controlnets
        )
        key = model, profile, loras, nets
        with self._opening:
            if key not in self._open:
                self._open[key] = StableDiffusionPipeline.from_pretrained(
                    self.folders[model],
                    profile=profile,
                    loras=[(self.loras[name], weight) for name, weight in loras],
                    controlnet=[(self.controlnets[name], weight) for name, weight in nets] or None,
                    streams=self.streams,
                    shelf=self.shelf,
                    **self.options,
                )
            self._open.move_to_end(key)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
            return self._open[key]

    def plan(self, asked: Asked, index: int = 0, **callbacks: Any) -> Plan:
        """What one picture of a request takes; a request that cannot be painted is refused.

        callbacks: as of a call.
        """
        if asked.seed is None:
            raise Refusal("a seed has to be settled before", param="seed")
        pipe = self.pipeline(asked)
        try:
            return pipe.plan(**{**asked.arguments, "seed": asked.seed + index}, **callbacks)
        except TypeError as error:
            raise Refusal(str(error)) from error

    def close(self) -> None:
        """Let go of everything."""
        self.shelf.clear()
        with self._opening:
            self._open.clear()


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by their names; the second of a name has a number behind it."""
    found: dict[str, Path] = {}
    for path in paths:
        name, number = path.stem if path.suffix == ".safetensors" else path.name, 2
        unique = name
        while unique in found:
            unique, number = f"{name}-{number}", number + 1
        found[unique] = path
    return found


def _lora_files(folder: Path | None) -> list[Path]:
    return sorted(folder.glob("*.safetensors")) if folder else []


def _found(name: str, known: Mapping[str, Path], kind: str, param: str) -> str:
    if name not in known:
        listed = ", ".join(list(known)[:20]) or "none"
        raise Unknown(
            f"there is no {kind} {shown(name)!r} here{did_you_mean(name, known)}; "
            f"there are: {listed}",
            param=param,
        )
    return name
