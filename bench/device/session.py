"""All steps, one after the other, while there is time; results are written after each."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import PleinairError

from .. import machine
from ..process import run_fresh
from . import report, steps, training

_CLOSING = 15.0  # seconds for what comes after the last step
_SAVING = 45.0  # for the training's start and its checkpoint
_PARTS = 10.0  # of these for what is made of the checkpoint
_PATIENCE = 10.0  # what the CPU in the GPU's place may take longer


@dataclass
class Session:
    """Results by step, and the time that is left.

    ends: by time.time(). small: with the CPU in the GPU's place.
    """

    output: Path
    ends: float
    small: bool
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.ends - time.time() - _CLOSING

    def within(self, seconds: float) -> float:
        """What a step may take: so many seconds on a GPU, or what is left."""
        return max(1.0, min(seconds * (_PATIENCE if self.small else 1.0), self.left))

    def step(self, name: str, do: Callable[[], Any], *, least: float = 0.0) -> None:
        """Do it, if more than `least` seconds are left; note what it found, or why it failed."""
        begun = time.time()
        if self.left < least:
            found: Any = {"error": f"left out: {self.left:.0f} s were left"}
        else:
            try:
                found = do()
            except (PleinairError, OSError, subprocess.SubprocessError, ValueError) as error:
                found = {"error": str(error)[:500]}
        self.results[name] = {"found": found, "seconds": round(time.time() - begun, 1)}
        print(f"{name}: {json.dumps(self.results[name])[:600]}", flush=True)
        report.write(self.output, self.results)

    def fresh(self, do: Callable[..., Any], most: float, **job: Any) -> dict[str, Any]:
        """A function of `steps` in a process of its own, for `most` seconds or what is left."""
        target = f"{do.__module__}:{do.__name__}"
        return run_fresh(target, job, limit=self.within(most))

    def command(self, arguments: Sequence[str], most: float) -> None:
        """One of Pleinair's own commands; what it says stands in this process's log."""
        run([sys.executable, "-m", *arguments], self.within(most))


def run(command: Sequence[str], limit: float) -> None:
    """A command that is ended with all that it started when its time is over."""
    with subprocess.Popen(command, start_new_session=True) as child:
        try:
            code = child.wait(limit)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
    if code:
        raise OSError(f"{command[2]} ended with exit code {code}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--begun", type=float, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--stand-in", action="store_true")
    options = parser.parse_args()
    ends = options.begun + 60.0 * options.minutes
    session = Session(options.output, ends, options.stand_in)
    session.results["install"] = {"seconds": round(time.time() - options.begun, 1)}
    with _data(0.003 if session.small else 1.0) as data:
        _paint(session, data)
    return 0


@contextlib.contextmanager
def _data(share: float) -> Iterator[subprocess.Popen[bytes]]:
    """The training's data, made beside the first steps, and ended with them in any case."""
    child = training.start_data(share)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def _paint(session: Session, data: subprocess.Popen[bytes]) -> None:
    small = session.small
    pocket = str(training.ROOT / "models" / "pocket")
    shape = "tiny" if small else "sd-v1.4"
    work = training.ROOT / "bench" / "work" / "device" / shape
    model = str(work / "model")
    size, count = (64, 4) if small else (512, 20)

    session.results["asked"] = {"shape": shape, "size": size, "steps": count}
    session.step("machine", lambda: machine.facts() | session.fresh(steps.facts, 60))
    session.step("pocket", lambda: session.fresh(steps.pocket, 90, model=pocket, steps=8))

    def make() -> None:
        work.mkdir(parents=True, exist_ok=True)
        checkpoint = str(work / "checkpoint")
        if not Path(checkpoint).exists():
            session.command(["pleinair.bench", "fixture", "--shape", shape, checkpoint], 120)
        formats = ["--format", "onnx", "openvino"]
        session.command(["pleinair.export", checkpoint, model, *formats, "--quiet"], 240)

    if not Path(model).exists():  # of an earlier call on this machine
        session.step("shape", make)
    # Its drawing would disturb what is timed below.
    session.step("data", lambda: {"code": data.wait(session.within(60))})
    for precision, bound in (("f16", True), ("f16", False), ("f32", True)):
        job = {"precision": precision, "bound": bound, "size": size, "steps": count}
        name = f"{precision}, {'inputs stay on the device' if bound else 'copied every step'}"
        session.step(name, lambda job=job: session.fresh(steps.rates, 60, model=model, **job))
    session.step("no provider", lambda: _without_gpu(session, pocket))
    job = {"model": model, "size": size // 2 if not small else size, "full": True}
    session.step("no memory", lambda: session.fresh(steps.fallback, 60, **job))
    session.step("speed", lambda: _speed(session, model, size), least=45)
    session.step("training", lambda: _train(session), least=_SAVING + 10)


def _without_gpu(session: Session, model: str) -> dict[str, Any]:
    """With the provider installed, and nothing that it could start on."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        return session.fresh(steps.fallback, 60, model=model, size=64, full=False)
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _speed(session: Session, model: str, size: int) -> dict[str, Any]:
    """`bench speed` with the CPU beside the GPU, and its chart."""
    files = {"--json": "speed.json", "--markdown": "speed.md", "--chart": "chart.png"}
    for name in files.values():
        (session.output / name).unlink(missing_ok=True)
    wanted = ["--engines", "openvino", "onnxruntime", "--profiles", "exact", "--steps", "4"]
    wanted += ["--precisions", "auto", "--guidance", "7.5", "--sizes", str(size)]
    wanted += ["--rounds", "1", "--warm-up", "1"]
    wanted += [word for flag, name in files.items() for word in (flag, str(session.output / name))]
    session.command(["pleinair.bench", "speed", model, *wanted], 150)
    found = {"markdown": (session.output / "speed.md").read_text(encoding="utf-8")}
    found["measured"] = json.loads((session.output / "speed.json").read_text(encoding="utf-8"))
    for name in ("speed.json", "speed.md"):  # they stand in the results
        (session.output / name).unlink()
    return found


def _train(session: Session) -> dict[str, Any]:
    minutes = (session.left - _SAVING) / 60
    training.train(minutes, 1e-3, session.left - _PARTS)
    return {"minutes": minutes, "parts": training.save(session.output)} | training.curve()


if __name__ == "__main__":
    sys.exit(main())
