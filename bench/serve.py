"""A server's queue under load, beside the way of servers that hold a mutex around the model.

OpenVINO Model Server, and most others on CPUs, let every request wait for a mutex: who comes first
is chance, nobody is refused, and a client that has gone away is painted for all the same. Clients
ask again as soon as they are answered; some lose patience, and one keeps several requests open.
"""

import argparse
import asyncio
import random
import statistics
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SettingError

from . import machine, results
from .markdown import table
from .rounds import Record, Rounds
from .turns import Turn, Turns
from .worker import Watch

Ask = Callable[[str, int, float | None], Awaitable[bool]]
"""A client's name, a seed and its patience in seconds -> whether it was answered."""

_GREEDY = 8
"""Requests that the greedy client keeps open."""
_WAYS = ("pleinair serve", "a mutex")


def add_to(commands: Any) -> None:
    about = "a server's queue under load, beside a mutex around the model"
    parser = commands.add_parser("serve", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder")
    parser.add_argument("--clients", type=int, default=20, help="default: 20")
    parser.add_argument(
        "--leaving", type=float, default=0.2, help="share of requests given up (default: 0.2)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of load (default: 60)")
    parser.add_argument("--size", type=int, help="both sides (default: the model's own)")
    parser.add_argument("--steps", type=int, default=4, help="default: 4")
    parser.add_argument("--rounds", type=int, default=2, help="default: 2")
    machine.add_threads(parser)
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "clients", "steps", "rounds")
    if not 0 <= options.leaving <= 1:
        raise SettingError(f"--leaving is {options.leaving:g}; give 0 to 1")
    if not options.seconds > 0:
        raise SettingError(f"--seconds is {options.seconds:g}; give more than 0")
    measured, facts = Turns(Rounds(_WAYS[0], {})), machine.facts()
    job = {
        "model": str(options.model),
        "clients": options.clients,
        "leaving": options.leaving,
        "seconds": options.seconds,
        "threads": options.threads,
        "called": {
            "width": options.size,
            "height": options.size,
            "num_inference_steps": options.steps,
        },
    }
    turns = {way: Turn(f"{__name__}:load", {**job, "way": way}) for way in _WAYS}
    code = measured.measure(turns, options.rounds, _told)
    about = (
        f"{options.model}: {options.clients} clients for {options.seconds:g} s, {options.steps} "
        f"steps a picture; {100 * options.leaving:.0f} % of the requests are given up while they "
        f"wait; one of the clients keeps {_GREEDY} requests open. Fresh processes in turn."
    )
    results.publish(
        options,
        {"machine": facts, **job, **measured.as_json()},
        "\n\n".join([machine.sentence(facts), about, _markdown(measured.rounds.records)]),
    )
    return code


def load(job: dict[str, Any], watch: Watch) -> Record:
    """The worker's way in: what clients got of one way of serving."""
    return asyncio.run(_load(job, watch))


async def _load(job: dict[str, Any], watch: Watch) -> Record:
    ask, painted, close = await (_service if job["way"] == _WAYS[0] else _mutex)(job)
    waits: dict[bool, list[float]] = {True: [], False: []}
    until = time.perf_counter() + job["seconds"]

    async def client(name: str, greedy: bool, choose: random.Random) -> None:
        while (begun := time.perf_counter()) < until:
            leaves = choose.random() < job["leaving"]
            # As long as clients have waited so far, so that they leave in the midst of it.
            usual = statistics.median(waits[False]) if waits[False] else 1.0
            patience = choose.uniform(0, usual) if leaves else None
            if await ask(name, choose.randrange(2**32), patience) and time.perf_counter() < until:
                waits[greedy].append(time.perf_counter() - begun)
            watch.advance(min(1.0, 1 - (until - time.perf_counter()) / job["seconds"]))

    greedy = [client("greedy", True, random.Random(i)) for i in range(_GREEDY)]
    others = [client(f"{i}", False, random.Random(100 + i)) for i in range(job["clients"] - 1)]
    tasks = [asyncio.create_task(one) for one in (*greedy, *others)]
    await asyncio.sleep(job["seconds"])
    answered, work = len(waits[True]) + len(waits[False]), painted()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await close()
    return {
        "hourly": answered * 3600 / job["seconds"],
        "wasted": 1 - answered / work if work else 0.0,
        "waits": _percentiles(waits[False]),
        "greedy": _percentiles(waits[True]),
    }


Serving = tuple[Ask, Callable[[], float], Callable[[], Awaitable[None]]]
"""How it is asked, how many pictures' worth of steps it painted, and how it ends."""


async def _service(job: dict[str, Any]) -> Serving:
    """Our service: turns by client, and what nobody waits for stops within a step."""
    from pleinair.serve.asked import Asked
    from pleinair.serve.models import Models
    from pleinair.serve.service import Service

    models = Models([job["model"]], threads=job["threads"])
    models.warm(())
    service, steps = Service(models, most=10_000), job["called"]["num_inference_steps"]
    taken = 0

    async def ask(client: str, seed: int, patience: float | None) -> bool:
        nonlocal taken
        asked = Asked(arguments={"prompt": "a red apple", **job["called"]}, seed=seed)
        following = await service.submit(asked, client)
        try:
            status = await asyncio.wait_for(following.finished(), patience)
        except (asyncio.TimeoutError, asyncio.CancelledError) as left:
            service.cancel(following)
            taken += following.status.step
            if isinstance(left, asyncio.CancelledError):
                raise
            return False
        taken += status.step
        return status.state == "done"

    return ask, lambda: taken / steps, lambda: service.close(0)


async def _mutex(job: dict[str, Any]) -> Serving:
    """A thread a request, a mutex around the pipeline, and nobody looks who is still there."""
    from pleinair.runtime import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(job["model"], threads=job["threads"])
    pipe.warm_up()
    mutex, threads, ending = threading.Lock(), ThreadPoolExecutor(10_000), threading.Event()
    painted = 0

    def paint(seed: int) -> None:
        nonlocal painted
        with mutex:
            if not ending.is_set():
                pipe("a red apple", seed=seed, **job["called"])
                painted += 1

    async def ask(client: str, seed: int, patience: float | None) -> bool:
        request = asyncio.get_running_loop().run_in_executor(threads, paint, seed)
        try:
            await asyncio.wait_for(asyncio.shield(request), patience)
        except asyncio.TimeoutError:
            return False
        return True

    async def close() -> None:
        ending.set()
        threads.shutdown()

    return ask, lambda: painted, close


def _percentiles(waits: list[float]) -> dict[str, float]:
    if len(waits) < 2:
        return {}
    cuts = statistics.quantiles(waits, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def _seconds(wait: float | None) -> str:
    return "none answered" if wait is None else f"{wait:.2f}"


def _told(record: Record) -> str:
    wait = record["waits"].get("p50")
    return f"{record['hourly']:.0f} answered an hour" + (f", p50 {wait:.2f} s" if wait else "")


def _markdown(records: list[Record]) -> str:
    """A row a way and round."""
    names = ("p50", "p95", "p99")
    rows = [
        [
            record["name"],
            record["round"],
            f"{record['hourly']:.0f}",
            *(_seconds(record["waits"].get(name)) for name in names),
            _seconds(record["greedy"].get("p50")),
            f"{100 * record['wasted']:.0f} %",
        ]
        for record in records
    ]
    heads = ["", "round", "answered an hour", *(f"wait {name} s" for name in names)]
    return table([*heads, "the greedy client's p50 s", "painted for nobody"], rows)
