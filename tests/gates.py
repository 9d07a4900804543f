"""A gate before the denoiser's steps, so that a test finds a picture where it wants it."""

import threading

import pytest

from pleinair.runtime.denoise.denoiser import Denoiser


class Gate:
    """Lets steps of denoising through one by one. begun: those that have come to it."""

    def __init__(self) -> None:
        self.begun = 0
        self._free = threading.Semaphore(0)

    def let(self, steps: int) -> None:
        for _ in range(steps):
            self._free.release()

    def open(self) -> None:
        self.let(10_000)

    def close_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand before every denoiser."""
        step = Denoiser.__call__

        def held(*args: object) -> object:
            self.begun += 1
            assert self._free.acquire(timeout=60)
            return step(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(Denoiser, "__call__", held)
