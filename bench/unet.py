"""How to run the denoiser: what fixed shapes gain, and batch 1 twice against batch 2 once.

A guided step needs two predictions. One graph of batch 2 gives them in one evaluation, one of
batch 1 in two; both figures are put side by side as seconds a guided step.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pleinair.runtime import families
from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.openvino import OpenVinoEngine, OpenVinoGraph
from pleinair.runtime.engines.protocol import Feeds, Graph
from pleinair.runtime.errors import SettingError
from pleinair.runtime.families.family import Family

from . import machine, results
from .rounds import Measure, Rounds
from .turns import Turn, Turns
from .worker import Watch


@dataclass(frozen=True)
class Variant:
    """One way to compile the denoiser. ONNX Runtime has no other shapes than dynamic ones."""

    engine: str
    shapes: str
    batch: int

    @property
    def format(self) -> str:
        return "onnx" if self.engine == "onnxruntime" else "openvino"

    def __str__(self) -> str:
        return f"{self.engine}, {self.shapes}, batch {self.batch}"


VARIANTS = (
    Variant("openvino", "static", 1),
    Variant("openvino", "dynamic", 1),
    Variant("openvino", "static", 2),
    Variant("onnxruntime", "dynamic", 1),
    Variant("onnxruntime", "dynamic", 2),
)

# Column -> its value in a variant's measurements.
MEASURES: dict[str, Measure] = {
    "compile s": lambda measured: measured["compile"],
    "s an evaluation": lambda measured: statistics.median(measured["evaluations"]),
    "s a guided step": lambda m: statistics.median(m["evaluations"]) * 2 / m["batch"],
    "peak memory GB": lambda m: m["peak_memory"] and m["peak_memory"] / 1e9,
}


def add_to(commands: Any) -> None:
    about = "denoiser alone: static against dynamic shapes, batch 1 twice against batch 2 once"
    parser = commands.add_parser("unet", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder")
    parser.add_argument("--size", type=int, default=512, help="both sides (default: 512)")
    parser.add_argument("--evaluations", type=int, default=5, help="a process (default: 5)")
    parser.add_argument("--rounds", type=int, default=2, help="processes a variant (default: 2)")
    machine.add_threads(parser)
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "evaluations", "rounds", "threads")
    family = families.open_model(options.model)
    variants = [variant for variant in VARIANTS if variant.format in family.bundle.graphs]
    turns = {
        str(variant): Turn(f"{__name__}:evaluate", job(variant, family, options))
        for variant in variants
    }
    measured = Turns(Rounds(str(variants[0]), MEASURES))
    facts = machine.facts()
    code = measured.measure(turns, options.rounds)
    about = (
        f"{family.denoiser} at {options.size}x{options.size}, {options.threads} threads, "
        f"{options.evaluations} evaluations a fresh process, variants in turn; median (range over "
        "the rounds)."
    )
    everything = {"machine": facts, "size": options.size, "threads": options.threads}
    results.publish(
        options,
        everything | measured.as_json(),
        "\n\n".join([machine.sentence(facts), about, measured.markdown()]),
    )
    return code


def job(variant: Variant, family: Family, options: argparse.Namespace) -> dict[str, Any]:
    """A job of `evaluate`; SettingError where the model has no pictures of that size.

    "inputs": name -> shape, of all inputs but the "timestep", which is an input's name.
    """
    size, multiple = options.size, family.multiple
    if size < 1 or size % multiple:
        raise SettingError(f"size is {size}; give a multiple of {multiple}")
    part = family.denoiser
    names = family.bundle.input_names.get(part, {})
    inputs = family.denoiser_inputs(variant.batch, size, size)
    return {
        "engine": variant.engine,
        "static": variant.shapes == "static",
        "batch": variant.batch,
        "graph": str(family.bundle.graph(part, variant.format)),
        "inputs": {names.get(name, name): list(shape) for name, shape in inputs.items()},
        "timestep": names.get(family.timestep, family.timestep),
        "evaluations": options.evaluations,
        "threads": options.threads,
    }


def evaluate(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: compile, run once to warm up, then time each evaluation."""
    begun = time.perf_counter()
    graph = compiled(job)
    ready = time.perf_counter() - begun
    random = np.random.default_rng(0)
    feeds: Feeds = {
        name: random.standard_normal(shape, np.float32) for name, shape in job["inputs"].items()
    } | {job["timestep"]: np.asarray(500)}
    graph(feeds)
    evaluations = []
    for i in range(job["evaluations"]):
        watch.advance((i + 1) / (job["evaluations"] + 1))
        begun = time.perf_counter()
        graph(feeds)
        evaluations.append(time.perf_counter() - begun)
    return {"batch": job["batch"], "compile": ready, "evaluations": evaluations}


def compiled(job: dict[str, Any]) -> Graph:
    """The graph of a job as the runtime compiles it; dynamic shapes it never asks OpenVINO for."""
    path, threads = Path(job["graph"]), job["threads"]
    if job["engine"] == "onnxruntime":
        return OnnxRuntimeEngine("cpu", threads).compile(path, {})
    engine = OpenVinoEngine("cpu", threads=threads)
    if job["static"]:
        return engine.compile(path, job["inputs"])
    return OpenVinoGraph(engine.compiled(path))
