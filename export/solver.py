"""A solver that a folder is to name in place of its checkpoint's own, as for LCM or Lightning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pleinair.runtime import schedulers
from pleinair.runtime.errors import SchedulerError, SourceError
from pleinair.runtime.files import conform
from pleinair.runtime.schedulers.catalog import NAMED, SOLVERS
from pleinair.runtime.schedulers.flow_match_euler import FlowMatchEuler

# Of a picture of any size, by which some shift their noise.
_TOKENS = 1024


class _Config(msgspec.Struct):
    """What is asked of any scheduler_config.json."""

    class_name: str | None = msgspec.field(name="_class_name", default=None)
    assumed: list[str] = msgspec.field(name="_use_default_values", default_factory=list)


def require_usable(config: Mapping[str, Any], where: str) -> None:
    """Raise `SourceError`, which begins with `where`, for a configuration that no solver takes."""
    conform(config, _Config, where, error=SourceError)
    try:
        solver = schedulers.from_config(config)
        tokens = (_TOKENS,) if isinstance(solver, FlowMatchEuler) else ()
        solver.set_timesteps(2, *tokens)
    except SchedulerError as error:
        raise SourceError(f"{where}: {error} (--scheduler NAME exports with another)") from error


SPACINGS = ("leading", "linspace", "trailing")


@dataclass(frozen=True)
class Solver:
    """What is to be other in a checkpoint's scheduler_config.json.

    name: one of `schedulers.names()`, or None for the checkpoint's own class.
    timestep_spacing: one of SPACINGS; models distilled to a few steps take them "trailing", so
        that the first is the very end of the noise [Lin et al. 2023, arXiv 2305.08891, table 2].
    """

    name: str | None = None
    timestep_spacing: str | None = None

    def __post_init__(self) -> None:
        """Raises SchedulerError for a name that is not known."""
        if self.name is not None and self.name not in NAMED:
            known = ", ".join(schedulers.names())
            raise SchedulerError(f"no scheduler is named {self.name!r}: choose one of {known}")
        if self.timestep_spacing not in (None, *SPACINGS):
            raise SchedulerError(
                f"timestep_spacing is {self.timestep_spacing!r}; choose from: {', '.join(SPACINGS)}"
            )

    def config(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The checkpoint's configuration so changed, as diffusers' `from_config` does it.

        The training noise stays, and so do options that the other class shares. Raises
        SchedulerError where the solver cannot be made of them.
        """
        conform(own, _Config, "scheduler_config.json", error=SourceError)
        # Those that a live configuration has by its own class's defaults say nothing of another.
        assumed = {"_use_default_values", *own.get("_use_default_values", ())}
        changed = {key: value for key, value in own.items() if key not in assumed}
        if self.timestep_spacing is not None:
            changed["timestep_spacing"] = self.timestep_spacing
        schedulers.from_config(changed, self.name)
        if self.name is not None:
            solver, options = NAMED[self.name]
            names = (name for name, known in SOLVERS.items() if known is solver)
            changed |= {"_class_name": next(names), **options}
        return changed
