"""optimum at work, in an environment of its own: one process for all that a worker's tests ask."""

import contextlib
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

_PEER = Path(__file__).parent / "export" / "peer.py"
_LONGEST = 600
"""Seconds."""


class Optimum:
    """Started when it is first asked: its imports take longer than what the tests ask.

    python: that environment's. log: a file for what it prints.
    """

    def __init__(self, python: str, log: Path) -> None:
        self.python, self.log = python, log
        self._process: subprocess.Popen[str] | None = None

    def export(self, engine: str, checkpoint: Path, folder: Path) -> None:
        """As optimum-cli exports it. engine: "openvino" or "onnx"."""
        self._ask("export", engine, str(checkpoint), str(folder))

    def paint(
        self, engine: str, folder: Path, picture: Path, prompt: str, size: tuple[int, int]
    ) -> None:
        """picture: the .npy file that is made. size: height and width."""
        self._ask("paint", engine, str(folder), str(picture), prompt, *size)

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()

    def _ask(self, *asked: Any) -> None:
        process = self._process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        stop = threading.Timer(_LONGEST, process.kill)
        stop.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # its log says more
                print(json.dumps(asked), file=process.stdin, flush=True)
            answer = process.stdout.readline()
        finally:
            stop.cancel()
        assert answer, f"it ended: {self.log.read_text(encoding='utf-8')[-3000:]}"
        assert json.loads(answer) == ""

    def _started(self) -> "subprocess.Popen[str]":
        with self.log.open("w", encoding="utf-8") as log:
            return subprocess.Popen(
                [self.python, str(_PEER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
