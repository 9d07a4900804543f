"""One job in a process of its own."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, TextIO

from pleinair.runtime.errors import EngineError


def run_fresh(
    target: str, job: dict[str, Any], report: Callable[[float], object] = lambda share: None
) -> dict[str, Any]:
    """What "module:function" returns for `job`, run by `worker.py` in a fresh process.

    report: called with the share done, whenever the job says it.
    The result gains "peak_memory" (bytes, or None) and "process" (seconds from start to exit).
    Raises EngineError, with the job's own words, where it fails. Interrupted, it kills the process.
    """
    begun = time.perf_counter()
    command = [sys.executable, "-m", f"{__package__}.worker"]
    command += [target, json.dumps(job), repr(begun)]
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
        ) as child,
    ):
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
        if code or result is None:
            raise EngineError(failure or _last_line(errors) or f"it died with exit code {code}")
    return result | {"process": time.perf_counter() - begun}


def _last_line(errors: TextIO) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return lines[-1][:300] if lines else ""
