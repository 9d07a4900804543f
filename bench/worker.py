"""The fresh process: `python -m pleinair.bench.worker MODULE:FUNCTION JOB BEGUN`.

It calls the function with the job (JSON) and a `Watch`, and writes a line of JSON to its standard
output for progress, for an error that the user can mend, and for the result with the peak memory.
Nothing heavy is imported here: what the function imports counts as its start-up.
"""

import importlib
import json
import os
import sys
import time
from typing import Any, TextIO

from pleinair.runtime.errors import PleinairError

from . import memory


class Watch:
    """Time since this process was asked for, and a word to the parent on how far it is.

    begun: the parent's `time.perf_counter()`, a clock that all processes share.
    """

    def __init__(self, begun: float, channel: TextIO) -> None:
        self._begun = begun
        self._channel = channel

    def seconds(self) -> float:
        return time.perf_counter() - self._begun

    def advance(self, share: float) -> None:
        self.say(progress=share)

    def say(self, **event: Any) -> None:
        self._channel.write(json.dumps(event) + "\n")
        self._channel.flush()


def main(target: str, job: str, begun: str) -> int:
    # Libraries print, C++ ones past sys.stdout; the channel must carry our lines alone.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    watch = Watch(float(begun), channel)
    module, _, function = target.partition(":")
    try:
        result = getattr(importlib.import_module(module), function)(json.loads(job), watch)
    except PleinairError as error:
        watch.say(error=str(error))
        return 2
    watch.say(result=result | {"peak_memory": memory.peak()})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
