"""Profiles: what a model gives up for speed, under one name each."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import BundleError, SettingError
from ..model.bundle import Bundle

EIGHT_BIT = "{}_int8"
"""The folder of a part's graph in 8 bits, beside the part's own."""


@dataclass(frozen=True)
class Profile:
    """What stands where a call says nothing; each setting of a call wins over it.

    eight_bit: parts whose graph in 8 bits is taken.
    The others are arguments of a call: see `StableDiffusionPipeline.__call__`.
    """

    name: str
    eight_bit: tuple[str, ...] = ()
    cache_interval: int = 1
    cache_branch: int = 0
    cache_schedule: str = "uniform"
    cache_order: int = 0
    cache_guidance: str = "anew"
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    guidance_similarity: float = 1.0

    @classmethod
    def of(cls, name: str) -> "Profile":
        """Raises SettingError for a name that is not in the table."""
        if name not in PROFILES:
            raise SettingError(f"profile {name!r} is unknown; choose from: {', '.join(PROFILES)}")
        return PROFILES[name]

    def over(self, **given: Any) -> "Profile":
        """The same with a call's settings, where they are not None."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @property
    def settings(self) -> dict[str, Any]:
        """Those of a call that are other than the exact profile's, by their names."""
        exact = PROFILES["exact"]
        values = {name: getattr(self, name) for name in SETTINGS}
        return {name: value for name, value in values.items() if value != getattr(exact, name)}

    def part(self, name: str) -> str:
        """The folder that a part's graph is taken from."""
        return EIGHT_BIT.format(name) if name in self.eight_bit else name

    def check(self, bundle: Bundle, format: str, loras: bool) -> None:
        """Raises BundleError where a graph is missing, SettingError where LoRA files cannot act.

        loras: whether the UNet's weights are to be changed.
        """
        for name in self.eight_bit:
            if self.part(name) not in bundle.graphs[format]:
                raise BundleError(
                    f"{bundle.path}: holds no {self.part(name)} as {format}, which profile "
                    f"{self.name} takes; make it with: pleinair-quantize {bundle.path}"
                )
        if loras and "unet" in self.eight_bit:
            raise SettingError(
                f"profile {self.name} has weights of 8 bits, which LoRA files cannot change; "
                "merge them by pleinair-export --lora and quantize that, or take profile exact"
            )


_BALANCED = Profile("balanced", eight_bit=("unet", "vae_decoder"))
PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("exact"),
        _BALANCED,
        replace(
            _BALANCED,
            name="fast",
            cache_interval=4,
            cache_schedule="uniform_last",
            cache_guidance="kept",
        ),
    )
}
AUTO = "auto"
"""The profile that `pleinair tune` recommends for a model on this machine, else exact."""
SETTINGS = tuple(
    setting.name for setting in fields(Profile) if setting.name not in ("name", "eight_bit")
)
"""The arguments of a call that a profile fills in."""
