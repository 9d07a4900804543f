"""Models distilled to few steps: which kinds there are, and what their authors paint them with.

A LoRA file of such a kind is told by its name, or by the title in its metadata.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import schedulers
from ..adapters.lora import Lora
from ..model.catalog import Recommended

_log = logging.getLogger("pleinair")

AUTO = "auto"
"""In place of a kind: the one that the names of LoRA files, or of the model, say."""
# Names that say nothing of a file's content: the folder's stands for it.
_GENERIC = re.compile(r"(pytorch_)?lora(_weights)?|diffusion_pytorch_model|adapter_model|model")
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[ _-]?steps?(?![a-z])", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What a model of few steps is painted with.

    kind: a key of KINDS. scheduler: None is the model's.
    guidance_scale: at 1 and below the branch without the prompt is not computed.
    timestep_spacing, eta, timesteps: where the authors name another than the solver's usual.
    """

    kind: str
    scheduler: str | None
    steps: int = 4
    guidance_scale: float = 0.0
    timestep_spacing: str | None = None
    eta: float | None = None
    timesteps: tuple[int, ...] | None = None

    def named(self, name: str) -> "Distillation":
        """The one of this kind that a file of this name holds: for how many steps, with guidance or
        without.
        """
        found = self
        if stated := _STEPS.search(name):
            steps = max(1, int(stated[1]))
            kept = found.timesteps if found.timesteps and steps == len(found.timesteps) else None
            found = replace(found, steps=steps, timesteps=kept)
        name = name.lower()
        if self.kind == "hyper" and found.steps == 1:  # for any number of steps up to 8
            found = replace(found, scheduler="tcd", timestep_spacing=None, eta=1.0)
        if self.kind == "hyper" and re.search(r"(?<![a-z])cfg(?![a-z])", name):
            found = replace(found, guidance_scale=5.0)
        if self.kind == "pcm" and "normalcfg" in name:
            found = replace(found, guidance_scale=7.5)
        if self.kind == "pcm" and "lcmlike" in name:
            found = replace(found, scheduler="lcm", timestep_spacing=None)
        return found

    def fitting(self, config: Mapping[str, Any]) -> "Distillation":
        """With the model's own solver where it was trained on other noise than by betas.

        config: the model's scheduler_config.json.
        """
        if self.scheduler in schedulers.names(config):
            return self
        return replace(self, scheduler=None, timestep_spacing=None, eta=None, timesteps=None)

    def config(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """A model's scheduler_config.json with the spacing of the timesteps."""
        return schedulers.spaced(own, self.timestep_spacing)

    def recommended(self, usual: Recommended) -> Recommended:
        """What a model is painted with that is so distilled, of what it was painted with before."""
        return replace(
            usual,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            scheduler=self.scheduler,
            eta=self.eta,
            timesteps=self.timesteps,
        )

    def stated(self, scheduler: str | None = None) -> dict[str, Any]:
        """The same as a folder's pleinair.json recommends it.

        scheduler: the solver that the folder names where it is another; then what is only for the
            distillation's own is left out.
        """
        facts = {"steps": self.steps, "guidance_scale": self.guidance_scale}
        if scheduler not in (None, self.scheduler):
            return facts
        own = {"scheduler": self.scheduler, "eta": self.eta, "timesteps": self.timesteps}
        return facts | {name: value for name, value in own.items() if value is not None}

    def __str__(self) -> str:
        solver = f" of {self.scheduler}" if self.scheduler else ""
        return (
            f"{KINDS[self.kind][0]}: {self.steps} step{'s' if self.steps > 1 else ''}{solver}, "
            f"guidance scale {self.guidance_scale:g}"
        )


def _word(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])(?:{pattern})(?![a-z])", re.IGNORECASE | re.ASCII)


# Kind -> what it is called, names of files that are of it, and its authors' settings, for the file
# of four steps where there are several. PCM stands before LCM, whose name some of its files bear.
KINDS: Mapping[str, tuple[str, re.Pattern[str], Distillation]] = {
    # Wang et al. 2024.
    "pcm": (
        "PCM",
        _word("pcm"),
        Distillation(kind="pcm", scheduler="ddim", timestep_spacing="trailing"),
    ),
    # Luo et al. 2023.
    "lcm": ("LCM", _word("lcm"), Distillation(kind="lcm", scheduler="lcm", guidance_scale=1.0)),
    # Zheng et al. 2024.
    "tcd": ("TCD", _word("tcd"), Distillation(kind="tcd", scheduler="tcd", eta=0.3)),
    # Ren et al. 2024.
    "hyper": (
        "Hyper-SD",
        _word(r"hyper[ _-]?sd(?:xl|\d+)?"),
        Distillation(kind="hyper", scheduler="ddim", timestep_spacing="trailing"),
    ),
    # Lin et al. 2024. By itself the word is also what flashes in the sky.
    "lightning": (
        "Lightning",
        _word(r"(?:sd)?xl[ _-]?lightning|lightning(?=[ _-]?\d+[ _-]?steps?)"),
        Distillation(kind="lightning", scheduler="euler", timestep_spacing="trailing"),
    ),
    # Yin et al. 2024: trained at just these timesteps.
    "dmd2": (
        "DMD2",
        _word("dmd2?"),
        Distillation(kind="dmd2", scheduler="lcm", timesteps=(999, 749, 499, 249)),
    ),
    # Chadebec et al. 2024.
    "flash": (
        "Flash Diffusion",
        _word(r"flash[ _-]?sd(?:xl|\d+)?"),
        Distillation(kind="flash", scheduler="lcm"),
    ),
    # Sauer et al. 2023; as LoRA files their difference from the models they were made of.
    "turbo": (
        "Turbo",
        _word(r"sd[ _-]?(?:xl)?[ _-]?turbo"),
        Distillation(kind="turbo", scheduler="euler_a", timestep_spacing="trailing"),
    ),
}


def of_name(name: str) -> Distillation | None:
    """What a file of this name, or with this title, is distilled as; None where it does not say."""
    for _, pattern, settings in KINDS.values():
        if pattern.search(name):
            return settings.named(name)
    return None


def of_file(file: Lora) -> Distillation | None:
    """What a LoRA file is distilled as, by its name, its titles, or its folder's name."""
    return next(filter(None, map(of_name, names_of(file))), None)


def of_kind(kind: str, files: Sequence[Lora], model: str) -> Distillation:
    """That of a kind which is known, with what the names of files and model say beside it."""
    names = [name for file in files for name in names_of(file)]
    return KINDS[kind][2].named(" ".join([*names, model]))


def among(files: Sequence[Lora], config: Mapping[str, Any]) -> Distillation | None:
    """That of the first file that is distilled; a line says so. None where none is.

    config: scheduler_config.json of the model that they are put on.
    """
    for file in files:
        if file.weight > 0 and (found := of_file(file)):
            found = found.fitting(config)
            _log.info(
                "%s is distilled to few steps (%s); so it is painted where nothing else is asked "
                "for",
                file.path.name,
                found,
            )
            return found
    return None


def names_of(file: Lora) -> Iterator[str]:
    """The names that may say what a file is: its own, its titles, and for a file named as all
    are the folder's, or in the hub's cache the repository's.
    """
    path = file.path.absolute()
    generic = _GENERIC.fullmatch(path.stem)
    if not generic:
        yield path.stem
    yield from file.titles
    if generic:
        cached = path.parents[1:2] and path.parents[1].name == "snapshots"
        yield path.parents[2].name if cached else path.parent.name
