"""Profiles: what a model gives up for speed, under one name each."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..engines.protocol import Engine
from ..errors import BundleError, SettingError, unknown
from ..model.bundle import Bundle
from ..options.groups import COMPVIS_PRECISIONS, PRECISIONS, Reuse
from .eight_bits import gains_nothing

log = logging.getLogger("pleinair")

EIGHT_BIT = "{}_int8"
"""The folder of a part's graph in 8 bits, beside the part's own."""
AUTO = "auto"
"""The profile that `pleinair tune` recommends for a model on this machine, else native."""
DEFAULT = "native"

_NOTHING = Reuse(
    cache_interval=1,
    cache_level="features",
    cache_branch=0,
    cache_schedule="uniform",
    cache_guidance="anew",
)
_FAST = replace(_NOTHING, cache_interval=4, cache_schedule="growing", cache_guidance="kept")


@dataclass(frozen=True)
class Profile:
    """What stands where a call says nothing.

    eight_bit: whether denoiser and decoder are taken in 8 bits, as pleinair-quantize makes them.
    precision: what floating point computes in; "auto" is the engine's own choice on the device.
    reuse: what is kept from step to step; each setting of a call wins over it.
    """

    name: str
    eight_bit: bool = False
    precision: str = "auto"
    reuse: Reuse = _NOTHING

    @classmethod
    def of(cls, name: str) -> "Profile":
        """Raises SettingError for a name that is not in the table."""
        if name not in PROFILES:
            raise SettingError(unknown("profile", name, PROFILES))
        return PROFILES[name]

    def on(self, engine: Engine) -> "Profile":
        """The same with float graphs where the engine gains nothing by 8 bits; a line says so."""
        if not (self.eight_bit and gains_nothing(engine.name, engine.device)):
            return self
        log.info(
            "profile %s takes the float graphs here: OpenVINO gains nothing by 8 bits on Arm; "
            "engine onnxruntime does",
            self.name,
        )
        return replace(self, eight_bit=False)

    def computing(self, precision: str | None) -> str:
        """The precision asked for, also in CompVis's words; of None this profile's.

        Raises SettingError for a word that is none.
        """
        asked = self.precision if precision is None else precision
        asked = COMPVIS_PRECISIONS.get(asked, asked)
        if asked not in PRECISIONS:
            raise SettingError(unknown("precision", asked, PRECISIONS))
        return asked

    @property
    def settings(self) -> dict[str, Any]:
        """The options of a call that are other than the exact profile's, by their names."""
        exact = vars(PROFILES["exact"].reuse)
        return {name: value for name, value in vars(self.reuse).items() if value != exact[name]}

    def files(self, bundle: Bundle, format: str, denoiser: str) -> dict[str, str]:
        """Part -> the folder that its graph is taken from, where another than its own.

        Raises BundleError where a graph is missing.
        """
        parts = (denoiser, "vae_decoder") if self.eight_bit else ()
        for part in parts:
            if EIGHT_BIT.format(part) not in bundle.graphs[format]:
                raise BundleError(
                    f"{bundle.path}: holds no {EIGHT_BIT.format(part)} as {format}, which profile "
                    f"{self.name} takes; make it with: pleinair-quantize {bundle.path}"
                )
        return {part: EIGHT_BIT.format(part) for part in parts}


def usual(bundle: Bundle, denoiser: str, recommended: str | None) -> str:
    """The profile where nobody names one: what the model recommends, else native.

    Native, too, where a format lacks the graphs of it.
    """
    profile = PROFILES[recommended or DEFAULT]
    try:
        for format in bundle.graphs:
            profile.files(bundle, format, denoiser)
    except BundleError:
        return DEFAULT
    return profile.name


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("exact", precision="f32"),
        Profile("native"),
        Profile("balanced", eight_bit=True),
        Profile("fast", eight_bit=True, reuse=_FAST),
    )
}
