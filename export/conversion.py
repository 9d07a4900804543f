"""A plan carried out: one network after another loaded, traced, and compared with its graphs."""

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pleinair.runtime.errors import SourceError, shown

from . import lora, manifest, parity, weights
from .families.family import SubModel
from .formats import backend
from .graphs.graph import Graph
from .plan import Plan

Progress = Callable[[str, float], None]
"""Called with what is being done and the share done, from 0 to 1."""


class Conversion:
    """The graphs of a plan's checkpoint, written into the folder `target`."""

    def __init__(self, plan: Plan, target: Path, report: Progress) -> None:
        self.plan = plan
        self.request = plan.request
        self.target = target
        self.clock = _Clock(plan.submodels, plan.sizes, len(plan.request.formats), report)
        self.rounding: dict[str, parity.Parity] = {}

    def run(self) -> dict[str, Any]:
        """Export one sub-model at a time, so that only one is in memory; return the parities.

        Raises `SourceError` for a weight that is missing or has no place, `ExportError` where a
        graph is too far from its module.
        """
        measured: dict[str, Any] = {}
        for submodel in self.plan.submodels:
            self.clock.says(f"loading {submodel}")
            trials = self._trace(submodel)
            # The module is gone here: an engine about to compile a UNet needs the room.
            gc.collect()
            for name, expected in trials.items():
                measured[name] = self._check(name, expected)
        return measured

    def _trace(self, submodel: str) -> dict[str, parity.Trials]:
        """Write the graphs of one sub-model in every format; return what they should compute."""
        plan, kind = self.plan, self.plan.submodels[submodel]
        module = plan.skeleton(submodel)
        weights.load(module, plan.origins[submodel].weights(submodel), f"{plan.name}/{submodel}")
        lora.merge(module, plan.changes.get(submodel, {}))
        config = kind.published(module, plan.configs[submodel])
        built = {name: graph.build(module) for name, graph in kind.graphs.items()}
        trials = self._run(submodel, module, built)
        for name, graph in built.items():
            manifest.write_json(self.target / name / "config.json", config)
            for form in self.request.formats:
                self.clock.says(f"tracing {name} for {form}")
                backend(form).write(graph, self.target / name, half=self.request.half)
                self.clock.finished(name)
        return trials

    def _run(
        self, submodel: str, module: torch.nn.Module, built: Mapping[str, Graph]
    ) -> dict[str, parity.Trials]:
        """Run the module itself; for fp16 with rounded weights, noting what the rounding costs."""
        trials = {}
        for name, graph in built.items():
            self.clock.says(f"running {name}")
            try:
                trials[name] = parity.reference(graph)
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                raise SourceError(
                    f"{self.plan.name}/{submodel}: its config describes a network that cannot be "
                    f"run ({shown(str(error), 300)})"
                ) from error
            self.clock.finished(name)
        origin = f"{self.plan.name}/{submodel}"
        if self.request.half and weights.round_to_half(module, origin):
            for name, graph in built.items():
                self.clock.says(f"running {name}, rounded")
                exact, trials[name] = trials[name], parity.reference(graph)
                self.rounding[name] = parity.compare(
                    exact,
                    trials[name].outputs,
                    f"{self.plan.name}/{name}, weights rounded to float16",
                    parity.ROUNDING_TOLERANCE,
                )
        return trials

    def _check(self, name: str, trials: parity.Trials) -> dict[str, Any]:
        measured = {}
        for form in self.request.formats:
            self.clock.says(f"checking {name} in {form}")
            found = backend(form).run(self.target / name, trials.inputs)
            where = f"{self.plan.name}/{name} ({form})"
            measured[form] = parity.compare(trials, found, where).as_json()
            self.clock.finished(name)
        if name in self.rounding:
            measured["rounding"] = self.rounding[name].as_json()
        return measured


class _Clock:
    """The share of the work that is done: parameters, by what a graph costs per parameter."""

    def __init__(
        self,
        submodels: Mapping[str, SubModel],
        sizes: Mapping[str, int],
        formats: int,
        report: Progress,
    ) -> None:
        self.report = report
        self.cost = {
            name: graph.cost * sizes[owner]
            for owner, submodel in submodels.items()
            for name, graph in submodel.graphs.items()
        }
        # Every graph is run once by torch, then traced and checked once in each format.
        self.total = sum(self.cost.values()) * (1 + 2 * formats)
        self.done = 0

    def says(self, stage: str) -> None:
        self.report(stage, self.done / self.total)

    def finished(self, graph: str) -> None:
        self.done += self.cost[graph]
