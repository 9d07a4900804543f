"""Does it leak? Many pictures in one process, and what is resident meanwhile."""

import argparse
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import EngineError

from . import machine, memory, results
from .markdown import table
from .progress import bars
from .way import Way


def add_to(commands: Any) -> None:
    about = "paint many pictures in one process and watch its memory"
    parser = commands.add_parser("soak", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder, better a small one")
    parser.add_argument("--pictures", type=int, default=200, help="default: 200")
    parser.add_argument("--every", type=int, default=20, help="pictures a reading (default: 20)")
    parser.add_argument("--workers", type=int, default=1, help="threads that paint at once")
    parser.add_argument("--size", type=int, help="both sides (default: the model's own)")
    parser.add_argument("--steps", type=int, default=4, help="default: 4")
    parser.add_argument(
        "--profile", default="native", help="or a profile and settings, as fast,vae=tiny"
    )
    parser.add_argument("--engine", choices=("openvino", "onnxruntime"), default="openvino")
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "pictures", "every", "workers")
    if memory.resident() is None:
        raise EngineError("this system does not say what is resident; pip install psutil")
    readings: list[dict[str, int]] = []
    code = 0
    try:
        _read(options, readings)
    except KeyboardInterrupt:
        code = 130
    everything = {
        "machine": machine.facts(),
        "workers": options.workers,
        "engine": options.engine,
        "profile": options.profile,
        "readings": readings,
        "growth": growth(readings),
    }
    results.publish(options, everything, _markdown(options, readings))
    return code


def _read(options: argparse.Namespace, readings: list[dict[str, int]]) -> None:
    way = Way.read(options.profile)
    pipe = way.open(options.model, engine=options.engine)
    size = {"width": options.size, "height": options.size}
    settings = {**size, "num_inference_steps": options.steps, **way.called}

    def paint(seed: int) -> None:
        pipe(f"picture number {seed}", seed=seed, **settings)

    with bars() as progress:
        task = progress.add_task("painting", total=options.pictures)
        for reading in soak(paint, options.pictures, options.every, options.workers):
            readings.append(reading)
            progress.update(task, completed=reading["pictures"])


def soak(
    paint: Callable[[int], None], pictures: int, every: int, workers: int
) -> Iterator[dict[str, int]]:
    """Call paint(0), paint(1), … from `workers` threads; after every few, read the memory.

    Yields {"pictures": painted so far, "resident": bytes}.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        for first in range(0, pictures, every):
            last = min(first + every, pictures)
            for _ in pool.map(paint, range(first, last)):
                pass
            gc.collect()
            yield {"pictures": last, "resident": memory.resident() or 0}
    finally:
        pool.shutdown(cancel_futures=True)


def growth(readings: list[dict[str, int]]) -> int | None:
    """Bytes gained after the first reading, which pays for compiling and for first-time buffers."""
    if len(readings) < 2:
        return None
    return readings[-1]["resident"] - readings[0]["resident"]


def _markdown(options: argparse.Namespace, readings: list[dict[str, int]]) -> str:
    rows = [[one["pictures"], f"{one['resident'] / 1e6:.1f}"] for one in readings]
    parts = [
        machine.sentence(machine.facts()),
        f"{options.workers} painting at once, {options.engine}, {options.profile}, "
        f"{options.steps} steps a picture.",
        table(["pictures", "resident MB"], rows),
    ]
    gained = growth(readings)
    if gained is not None:
        pictures = readings[-1]["pictures"] - readings[0]["pictures"]
        parts.append(
            f"Growth after warm-up: {gained / 1e6:+.1f} MB over {pictures} pictures, "
            f"{gained / pictures / 1e3:+.1f} kB a picture."
        )
    return "\n\n".join(parts)
