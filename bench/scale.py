"""Pictures an hour over replicas of the service on Ray, beside what docs/scale.md says beforehand.

The figures of one machine are taken first, without Ray: as many processes as replicas have cores to
themselves paint at once. From them, and from what one replica takes longer for being behind HTTP
and Ray's router, the others are said beforehand; then they are measured.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pleinair.runtime.engines.cores import physical_cores

from . import machine, results
from .markdown import table
from .process import run_fresh
from .progress import bars
from .worker import Watch

_PROMPT = "a red apple"
_TICK = 100
"""Of Linux' counters of CPU time, a second."""


def add_to(commands: Any) -> None:
    about = "pictures an hour over replicas on Ray, and whether they are what was to be expected"
    parser = commands.add_parser("scale", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder, better a small one")
    parser.add_argument("--replicas", nargs="+", type=int, default=[1, 2, 4], metavar="N")
    parser.add_argument("--threads", type=int, default=1, help="of a replica (default: 1)")
    parser.add_argument("--size", type=int, help="both sides (default: the model's own)")
    parser.add_argument("--steps", type=int, default=20, help="default: 20")
    parser.add_argument("--pictures", type=int, default=40, help="a replica's (default: 40)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "pictures", "rounds", "steps", "threads")
    counts = sorted({1, *options.replicas})
    measured: dict[str, dict[int, list[dict[str, float]]]] = {"alone": {}, "service": {}}
    facts = machine.facts()
    with bars() as progress:
        task = progress.add_task("measuring", total=options.rounds * 2 * len(counts))
        for _ in range(options.rounds):
            for count in counts:
                for kind, measure in (("alone", _alone), ("service", _served)):
                    found = measure(options, count)
                    measured[kind].setdefault(count, []).append(found)
                    progress.advance(task)
    rows = list(_rows(options, measured))
    header = ["replicas", "alone", "expected", "measured", "of that", "CPU s beside, a picture"]
    text = (
        f"{options.model}: {options.steps} steps, {options.threads} thread(s) a replica; pictures "
        f"an hour, median of {options.rounds} rounds of {options.pictures} a replica."
    )
    results.publish(
        options,
        {"machine": facts, "measured": measured},
        "\n\n".join([machine.sentence(facts), text, table(header, rows)]),
    )
    return 0


def expected(
    replicas: int, cores: int, *, seconds: float, handing: float, beside: float, threads: int = 1
) -> float:
    """Pictures a second of replicas that share a machine with all else: docs/scale.md, "The model".

    seconds: of a picture on a machine as busy. handing: seconds more that one replica takes.
    beside: CPU seconds a picture of router, proxy and clients, where these have no machine of
    their own.
    """
    if replicas * threads < cores:
        return replicas / (seconds + handing)
    return cores / (seconds * threads + beside)


def _rows(
    options: argparse.Namespace, measured: dict[str, dict[int, list[dict[str, float]]]]
) -> Iterator[list[object]]:
    def median(kind: str, count: int, name: str) -> float:
        return statistics.median(one[name] for one in measured[kind][count])

    handing = max(0.0, median("service", 1, "seconds") - median("alone", 1, "seconds"))
    cores = physical_cores()
    for count in measured["service"]:
        busy = min(count, cores // options.threads)
        beside = median("service", count, "beside")
        rate = expected(
            count,
            cores,
            seconds=median("alone", busy, "each"),
            handing=handing,
            beside=beside,
            threads=options.threads,
        )
        found = 1 / median("service", count, "seconds")
        yield [
            count,
            f"{3600 / median('alone', count, 'seconds'):.0f}",
            f"{3600 * rate:.0f}",
            f"{3600 * found:.0f}",
            f"{found / rate:.0%}",
            f"{beside:.3f}",
        ]


# Processes without Ray.


def _alone(options: argparse.Namespace, count: int) -> dict[str, float]:
    """Seconds a picture of so many processes all together, and of each."""
    job = {
        "model": str(options.model),
        "threads": options.threads,
        "pictures": options.pictures,
        "called": _called(options),
        "begin": time.time() + 10,
    }
    with ThreadPoolExecutor(count) as pool:
        target = f"{__name__}:paint"
        found = list(pool.map(lambda _: run_fresh(target, job), range(count)))
    each = [one["seconds"] for one in found]
    return {"seconds": 1 / sum(1 / one for one in each), "each": statistics.mean(each)}


def paint(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: "seconds" a picture, of those painted from a moment on."""
    from pleinair.runtime import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(job["model"], threads=job["threads"])
    pipe(_PROMPT, seed=0, **job["called"])
    time.sleep(max(0.0, job["begin"] - time.time()))
    begun = time.perf_counter()
    for seed in range(job["pictures"]):
        pipe(_PROMPT, seed=seed, **job["called"])
    return {"seconds": (time.perf_counter() - begun) / job["pictures"]}


# The service on Ray.


def _served(options: argparse.Namespace, count: int) -> dict[str, float]:
    """Seconds a picture of so many replicas all together; CPU seconds a picture beside them."""
    job = {
        "model": str(options.model),
        "threads": options.threads,
        "replicas": count,
        "pictures": options.pictures * count,
        "steps": options.steps,
        "size": f"{options.size}x{options.size}" if options.size else "auto",
    }
    found = run_fresh(f"{__name__}:serve", job)
    return {name: found[name] for name in ("seconds", "beside")}


def serve(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: clients ask for more than replicas can paint at once."""
    import ray
    from ray import serve as ray_serve

    from pleinair.serve.cluster.application import application
    from pleinair.serve.settings import Settings

    count = job["replicas"]
    ray.init(num_cpus=count * job["threads"], include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        setup = Settings(
            ray=True,
            model=(job["model"],),
            threads=job["threads"],
            replicas=count,
            min_replicas=count,
            data=Path(folder),
            max_queue=1000,
        )
        ray_serve.start(http_options={"host": "127.0.0.1", "port": _PORT})
        ray_serve.run(application(setup), name="pleinair")
        with ThreadPoolExecutor(3 * count) as pool:
            list(pool.map(lambda seed: _ask(job, seed), range(4 * count)))  # all are warm
            begun, before = time.perf_counter(), _beside()
            list(pool.map(lambda seed: _ask(job, seed), range(job["pictures"])))
            seconds, after = time.perf_counter() - begun, _beside()
        ray_serve.shutdown()
    ray.shutdown()
    number = job["pictures"]
    return {"seconds": seconds / number, "beside": (after - before) / number}


_PORT = 18_732


def _ask(job: dict[str, Any], seed: int) -> None:
    asked = {"prompt": _PROMPT, "rng_seed": seed, "num_inference_steps": job["steps"]}
    body = json.dumps({**asked, "size": job["size"]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{_PORT}/v1/images/generations",
        body,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        assert json.load(answer)["data"][0]["b64_json"]


def _beside() -> float:
    """CPU seconds so far of this process and all that it has started, replicas aside."""
    found: dict[int, tuple[int, float, bool]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        seconds = (int(fields[11]) + int(fields[12])) / _TICK
        replica = name.startswith(b"ray::ServeReplica:pleinair:replica")
        found[int(folder.name)] = int(fields[1]), seconds, replica
    total, ahead = 0.0, {os.getpid()}
    while ahead:
        total += sum(found[one][1] for one in ahead if not found[one][2])
        ahead = {one for one, (parent, *_) in found.items() if parent in ahead}
    return total


def _called(options: argparse.Namespace) -> dict[str, Any]:
    size = {"width": options.size, "height": options.size} if options.size else {}
    return {"num_inference_steps": options.steps, **size}
