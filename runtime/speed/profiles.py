"""Profiles: what a model gives up for speed, under one name each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BundleError, Message, SettingError, did_you_mean, shown
from ..model.bundle import Bundle
from ..options.groups import Reuse

EIGHT_BIT = "{}_int8"
"""The folder of a part's graph in 8 bits, beside the part's own."""
AUTO = "auto"
"""The profile that `pleinair tune` recommends for a model on this machine, else exact."""

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
    reuse: what is kept from step to step; each setting of a call wins over it.
    """

    name: str
    eight_bit: bool = False
    reuse: Reuse = _NOTHING

    @classmethod
    def of(cls, name: str) -> "Profile":
        """Raises SettingError for a name that is not in the table."""
        if name not in PROFILES:
            raise SettingError(
                Message(
                    "{profile} {0!r} is unknown; choose from: {1}{2}",
                    shown(name),
                    ", ".join(PROFILES),
                    did_you_mean(name, PROFILES),
                )
            )
        return PROFILES[name]

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

    def check_adapted(self, parts: Mapping[str, Any], denoiser: str) -> None:
        """Raise SettingError where LoRA files are to change weights of 8 bits."""
        if self.eight_bit and denoiser in parts:
            raise SettingError(
                f"profile {self.name} has weights of 8 bits, which LoRA files cannot change; "
                "merge them by pleinair-export --lora and quantize that, or take profile exact"
            )


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("exact"),
        Profile("balanced", eight_bit=True),
        Profile("fast", eight_bit=True, reuse=_FAST),
    )
}
