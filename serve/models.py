"""The models that a server offers, opened when they are asked for."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pleinair.runtime import Plan, Shelf, StableDiffusionPipeline
from pleinair.runtime.errors import PleinairError, SettingError, did_you_mean, shown
from pleinair.runtime.model import catalog
from pleinair.runtime.model.controlnet import ControlNet
from pleinair.runtime.model.footprint import bytes_of
from pleinair.runtime.record.made import description

from .asked import Asked, Weighted
from .bounds import Bounds
from .errors import Unknown
from .settings import Settings, Size

log = logging.getLogger("pleinair.serve")

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
    bounds: of what is asked.
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
        bounds: Bounds | None = None,
        **options: Any,
    ) -> None:
        self.folders = _named([catalog.find(name) for name in names])
        self._lora_folder = loras
        self.loras = _named(_lora_files(loras))
        self.controlnets = _named([ControlNet.open(path).path for path in controlnets])
        self.profile, self.streams, self.options = profile, streams, options
        self.bounds = bounds or Bounds()
        self.shelf = Shelf(bytes_of(max_memory))
        self._open: OrderedDict[Key, StableDiffusionPipeline] = OrderedDict()
        self._opening = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> "Models":
        """Those of a server; each of them is opened once. Raises PleinairError for one that is
        not there, or not whole.
        """
        models = cls(
            settings.model,
            loras=settings.loras,
            controlnets=settings.controlnet,
            profile=settings.profile,
            max_memory=settings.max_memory,
            streams=settings.workers,
            threads=settings.threads,
            engine=settings.engine,
            device=settings.device,
            bounds=Bounds(
                pixels=settings.max_pixels,
                steps=settings.max_steps,
                number=settings.max_n,
                prompt=settings.max_prompt,
            ),
        )
        for name in reversed(models.folders):
            models.pipeline(Asked(model=name))
        return models

    @property
    def first(self) -> str:
        return next(iter(self.folders))

    def named(self, name: str | None) -> str:
        """A model's name as it is listed; None is the first. Raises Unknown."""
        return self.first if name is None else _found(name, self.folders, "model", "model")

    def refresh(self) -> None:
        """Look into the folder of LoRA files again."""
        self.loras = _named(_lora_files(self._lora_folder))

    def pipeline(self, asked: Asked) -> StableDiffusionPipeline:
        """The pipeline for a request, opened where it is not. Raises Refusal and PleinairError."""
        model, profile = self.named(asked.model), asked.profile or self.profile
        loras = tuple((_found(n, self.loras, "LoRA", "loras"), w) for n, w in asked.loras)
        nets = tuple(
            (_found(n, self.controlnets, "ControlNet", "controlnets"), w)
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

        callbacks: as of a call. Raises Refusal and PleinairError.
        """
        self.bounds.check(asked)
        plan = self.pipeline(asked).plan(**asked.call(index), **callbacks)
        self.bounds.check_plan(plan)
        return plan

    def for_clients(self, error: PleinairError) -> str:
        """What an error says to a client: names in the place of this machine's paths."""
        text = str(error)
        for known in (self.folders, self.loras, self.controlnets):
            for name, path in known.items():
                for spelled in (str(path.resolve()), str(path)):
                    text = text.replace(spelled, name)
        return text

    def described(self, asked: Asked, plan: Plan) -> dict[str, Any]:
        """How the picture of a plan is made, by the names of a call's arguments."""
        found: dict[str, Any] = description(self.pipeline(asked), plan)
        return found

    def warm(self, sizes: Sequence[Size]) -> None:
        """Compile what the first model takes at these sizes, or at its own where there are none."""
        with _naming_the_flag("--warm"):
            self.pipeline(Asked()).warm_up(sizes or None)

    def forget(self, name: str) -> None:
        """Let go of a model, opened anew where it is asked for."""
        folder = self.folders[name].resolve()
        with self._opening:
            for key in [key for key in self._open if key[0] == name]:
                del self._open[key]
        self.shelf.drop(lambda wanted: wanted["path"].resolve().is_relative_to(folder))

    def close(self) -> None:
        """Let go of everything."""
        self.shelf.clear()
        with self._opening:
            self._open.clear()


@contextmanager
def _naming_the_flag(flag: str) -> Iterator[None]:
    try:
        yield
    except PleinairError as error:
        raise SettingError(f"{flag}: {error}") from error


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by their names; the second of a name has a number behind it."""
    found: dict[str, Path] = {}
    for path in paths:
        name, number = _name(path), 2
        unique = name
        while unique in found:
            unique, number = f"{name}-{number}", number + 1
        found[unique] = path
    return found


def _name(path: Path) -> str:
    if path.suffix == ".safetensors":
        return path.stem
    return path.name or path.resolve().name  # of the folder that one stands in


def _lora_files(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise SettingError(f"--loras is {folder}, which is no folder; give one of LoRA files")
    return sorted(folder.glob("*.safetensors"))


def _found(name: str, known: Mapping[str, Path], kind: str, param: str) -> str:
    if name not in known:
        listed = ", ".join(list(known)[:20]) or "none"
        raise Unknown(
            f"there is no {kind} {shown(name)!r} here{did_you_mean(name, known)}; "
            f"there are: {listed}",
            param=param,
        )
    return name
