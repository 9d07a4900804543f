"""One job in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from pleinair import runtime
from pleinair.runtime.errors import EngineError

_BENCH = Path(__file__).parent


def run_fresh(
    target: str,
    job: dict[str, Any],
    report: Callable[[float], object] = lambda share: None,
    python: str | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """What "module:function" returns for `job`, run by `worker.py` in a fresh process.

    report: called with the share done, whenever the job says it.
    python: the interpreter of another environment, which need not hold pleinair; None is this one.
    limit: seconds after which it is killed, which is a failure.
    The result gains "peak_memory" (bytes, or None) and "process" (seconds from start to exit).
    Raises EngineError, with the job's own words, where it fails. Interrupted, it kills the process.
    """
    begun = time.perf_counter()
    command = [*_interpreter(python), target, json.dumps(job), repr(begun)]
    result: dict[str, Any] | None = None
    failure = ""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            env=None if python is None else _environment(),
        ) as child,
    ):
        clock = threading.Timer(limit or threading.TIMEOUT_MAX, child.kill)
        clock.daemon = True
        clock.start()
        try:
            for line in child.stdout or ():
                event = json.loads(line)
                result = event.get("result", result)
                failure = event.get("error", failure)
                if "progress" in event:
                    report(event["progress"])
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        finally:
            clock.cancel()
        if limit and time.perf_counter() - begun > limit:
            raise EngineError(f"it took longer than {limit:.0f} s")
        if code or result is None:
            raise EngineError(failure or _last_line(errors) or f"it died with exit code {code}")
    return result | {"process": time.perf_counter() - begun}


def _interpreter(python: str | None) -> list[str]:
    if python is None:
        return [sys.executable, "-m", f"{__package__}.worker"]
    rooms = Path(runtime.__file__).parent, _BENCH
    return [python, str(_BENCH / "elsewhere.py"), *map(str, rooms)]


def _environment() -> dict[str, str]:
    """Ours, but for what would lead another interpreter to our libraries."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _last_line(errors: TextIO) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return lines[-1][:300] if lines else ""
