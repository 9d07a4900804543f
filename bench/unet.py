"""How to run the UNet: what fixed shapes gain, and batch 1 twice against batch 2 once.

A guided step needs two predictions. One graph of batch 2 gives them in one evaluation, one of
batch 1 in two; both figures are put side by side as seconds a guided step.
"""

import argparse
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SettingError
from pleinair.runtime.model.bundle import Bundle, read_json
from pleinair.runtime.text.tokenizer import ClipTokenizer

from . import machine, results
from .rounds import Measure, Rounds
from .turns import Turn, Turns
from .worker import Watch


@dataclass(frozen=True)
class Variant:
    """One way to compile the UNet. ONNX Runtime has no other shapes than dynamic ones."""

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
    about = "UNet alone: static against dynamic shapes, batch 1 twice against batch 2 once"
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
    bundle = Bundle.open(options.model)
    variants = [variant for variant in VARIANTS if variant.format in bundle.graphs]
    turns = {
        str(variant): Turn(f"{__name__}:evaluate", _job(variant, bundle, options))
        for variant in variants
    }
    measured = Turns(Rounds(str(variants[0]), MEASURES))
    facts, code = machine.facts(), 0
    try:
        measured.take(turns, options.rounds)
    except KeyboardInterrupt:
        code = 130
    if not code:
        measured.check()
    about = (
        f"UNet at {options.size}x{options.size}, {options.threads} threads, {options.evaluations} "
        "evaluations a fresh process, variants in turn; median (range over the rounds)."
    )
    everything = {"machine": facts, "size": options.size, "threads": options.threads}
    results.publish(
        options,
        everything | measured.as_json(),
        "\n\n".join([machine.sentence(facts), about, measured.markdown()]),
    )
    return code


def _job(variant: Variant, bundle: Bundle, options: argparse.Namespace) -> dict[str, Any]:
    if options.size < 1 or options.size % bundle.vae_scale_factor:
        raise SettingError(f"size is {options.size}; give a multiple of {bundle.vae_scale_factor}")
    side = options.size // bundle.vae_scale_factor
    width = read_json(bundle.path / "unet" / "config.json")["cross_attention_dim"]
    told = {}
    if bundle.guidance_width is not None:
        told["timestep_cond"] = [variant.batch, bundle.guidance_width]
    if bundle.xl is not None:
        pooled = read_json(bundle.path / "text_encoder_2" / "config.json")["projection_dim"]
        told["text_embeds"] = [variant.batch, pooled]
        told["time_ids"] = [variant.batch, 5 if bundle.xl.aesthetic else 6]
    return asdict(variant) | {
        "graph": str(bundle.graph("unet", variant.format)),
        "sample": [variant.batch, bundle.latent_channels, side, side],
        "embedding": [variant.batch, ClipTokenizer(bundle.tokenizer).max_length, width],
        "told": told,
        "evaluate": options.evaluations,
        "threads": options.threads,
    }


def evaluate(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: compile, run once to warm up, then time each evaluation."""
    import numpy as np

    begun = time.perf_counter()
    graph = _compile(job)
    compiled = time.perf_counter() - begun
    random = np.random.default_rng(0)
    told = {name: random.standard_normal(shape, np.float32) for name, shape in job["told"].items()}
    feeds = told | {
        "sample": random.standard_normal(job["sample"], np.float32),
        "timestep": np.asarray(500),
        "encoder_hidden_states": random.standard_normal(job["embedding"], np.float32),
    }
    graph(feeds)
    evaluations = []
    for i in range(job["evaluate"]):
        watch.advance((i + 1) / (job["evaluate"] + 1))
        begun = time.perf_counter()
        graph(feeds)
        evaluations.append(time.perf_counter() - begun)
    return {"batch": job["batch"], "compile": compiled, "evaluations": evaluations}


def _compile(job: dict[str, Any]) -> Any:
    """As the runtime does it; only dynamic shapes it never asks OpenVINO for."""
    path, threads = Path(job["graph"]), job["threads"]
    if job["engine"] == "onnxruntime":
        from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine("cpu", threads).compile(path, {})
    from pleinair.runtime.engines.openvino import OpenVinoEngine, OpenVinoGraph

    if job["shapes"] == "static":
        shapes = job["told"] | {
            "sample": job["sample"],
            "encoder_hidden_states": job["embedding"],
        }
        return OpenVinoEngine("cpu", threads=threads).compile(path, shapes)
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return OpenVinoGraph(openvino.Core().compile_model(path, "CPU", settings))
