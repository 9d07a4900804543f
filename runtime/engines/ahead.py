"""Graphs compiled beside the work that does not need them yet."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Ahead:
    """A thread that compiles one thing after the other, as a context manager.

    At the block's end, well or not, it is over: what is being compiled is waited for, as no engine
    leaves off in the middle, and what has not begun is dropped.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    def begin(self, compile: Callable[[], object]) -> Future[object]:
        """Compile when those that were begun before are done."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="pleinair-compile")
        return self._thread.submit(compile)

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
