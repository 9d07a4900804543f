"""The safety checker: which pictures are withheld, and why.

CompVis's model [Rando et al. 2022, Red-Teaming the Stable Diffusion Safety Filter, describe it]: a
picture's CLIP embedding is compared with those of seventeen concepts, which nobody names, and
counts as unsafe when its cosine to one of them passes that concept's threshold. Three more
concepts, of special care, lower all thresholds by 0.01.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ..engines.protocol import Graph, Shapes
from ..errors import EngineError, Message, SettingError
from ..files import conform
from ..images.clip import ClipPreprocessor
from ..images.pixels import as_picture
from .bundle import Bundle

log = logging.getLogger("pleinair")

Array: TypeAlias = NDArray[np.float32]

_LOWERED = np.float32(0.01)
# A blur's deviation is this part of the longer side: shapes smaller than a third of it are gone.
_BLUR = 12


@dataclass(frozen=True)
class Finding:
    """One concept that a picture is too near to: cosine and threshold, as compared."""

    concept: int
    score: float
    threshold: float

    def __str__(self) -> str:
        return f"concept {self.concept} scores {self.score:.3f} over {self.threshold:.3f}"


@dataclass(frozen=True)
class Verdict:
    """What the checker says of one picture; no findings is no objection.

    special_care: concepts for which all thresholds were lowered.
    """

    findings: tuple[Finding, ...] = ()
    special_care: tuple[int, ...] = ()

    @property
    def nsfw(self) -> bool:
        return bool(self.findings)

    def __str__(self) -> str:
        words = "; ".join(map(str, self.findings))
        if words and self.special_care:
            words += f" (lowered by {_LOWERED:g} for special care {self.special_care[0]})"
        return words


Cosines: TypeAlias = Annotated[
    list[Annotated[float, Meta(ge=-1000, le=1000)]], Meta(min_length=1, max_length=1000)
]


class CheckerConfig(Struct):
    """The config.json of an exported checker: from which cosine on a concept is too near."""

    concept_embeds_weights: Cosines
    special_care_embeds_weights: Cosines


@dataclass(frozen=True)
class Thresholds:
    """Cosines from which on a picture is too near, float32: of concepts, and of special care."""

    concepts: Array
    special_care: Array

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Thresholds":
        """From the config.json of an exported checker."""
        stated = conform(config, CheckerConfig, "safety_checker/config.json")
        weights = stated.concept_embeds_weights, stated.special_care_embeds_weights
        return cls(*(np.asarray(each, np.float32) for each in weights))

    def verdict(self, cosines: Array, special_cosines: Array) -> Verdict:
        """What diffusers decides of one picture, its rounding to three digits included."""
        cared = _over(special_cosines - self.special_care)
        lowered = _LOWERED if cared else np.float32(0)
        findings = (
            Finding(i, float(cosines[i]), float(self.concepts[i] - lowered))
            for i in _over(cosines - self.concepts + lowered)
        )
        return Verdict(tuple(findings), cared)


def _over(scores: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(scores.round(3) > 0))


@dataclass(frozen=True)
class SafetyChecker:
    """A model folder's checker; pictures are of any size, mode RGB."""

    graph: Graph
    preprocess: ClipPreprocessor
    thresholds: Thresholds

    @classmethod
    def of(cls, bundle: Bundle, compiled: Callable[[str, Shapes], Graph]) -> "SafetyChecker":
        """compiled: gives a part's graph for the shapes of its inputs."""
        preprocess = ClipPreprocessor.of(bundle.read("feature_extractor/preprocessor_config.json"))
        graph = compiled("safety_checker", {"clip_input": (1, 3, *preprocess.crop)})
        return cls(graph, preprocess, Thresholds.of(bundle.config("safety_checker")))

    def __call__(self, picture: Image.Image) -> Verdict:
        outputs = self.graph({"clip_input": self.preprocess(picture)})
        wanted = {
            "cos_dist": self.thresholds.concepts,
            "special_cos_dist": self.thresholds.special_care,
        }
        for name, thresholds in wanted.items():
            if name not in outputs or outputs[name].shape != (1, len(thresholds)):
                raise EngineError(
                    f"the safety checker's graph gives no {name} of {len(thresholds)} concepts, "
                    "as its config.json says; export the model anew, or choose safety off"
                )
        return self.thresholds.verdict(outputs["cos_dist"][0], outputs["special_cos_dist"][0])


def chosen(bundle: Bundle, safety: str | None, format: str) -> str:
    """What is done with unsafe pictures: None is "on" where the model has a checker, else "off".

    safety: one of `options.groups.SAFETY`. format: of the graphs that are used.
    Raises SettingError where a checker is asked for that is not there, BundleError for one that
    the folder has in another format alone: no picture goes unchecked without a word.
    """
    if safety == "off":
        return "off"
    if _usable(bundle):
        bundle.graph("safety_checker", format)
        return safety or "on"
    if safety:
        raise SettingError(
            Message(
                "{0} has no safety checker, so {safety} cannot be {1}; export a checkpoint that "
                "has one, or choose off",
                bundle.name,
                safety,
            )
        )
    return "off"


def tell_of_unused(bundle: Bundle) -> None:
    """One line where a folder's checker is there, and no picture will be shown to it."""
    if bundle.has("safety_checker") and not _usable(bundle):
        log.warning(
            "%s: its safety checker decides inside its graph and cannot say why: pictures are not "
            "checked; export the checkpoint anew for one that can",
            bundle.name,
        )


def _usable(bundle: Bundle) -> bool:
    """One of ours. Those of older ONNX folders have no thresholds outside the graph."""
    return bundle.has("safety_checker") and "concept_embeds_weights" in bundle.config(
        "safety_checker"
    )


def blurred(pixels: Array) -> Array:
    """Pixels 0 to 1, (height, width, 3), of which only the colours are left."""
    radius = max(pixels.shape[:2]) / _BLUR
    picture = as_picture(pixels).filter(ImageFilter.GaussianBlur(radius))
    colours: Array = (np.asarray(picture) / 255).astype(np.float32)
    return colours
