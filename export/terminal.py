"""A command at the terminal: bars with the time left, and an end by Ctrl-C that cleans up."""

import contextlib
import signal
from collections.abc import Callable, Iterator

Progress = Callable[[str, float], None]


@contextlib.contextmanager
def stoppable(on_progress: Progress) -> Iterator[Progress]:
    """Let SIGTERM clean up as Ctrl-C does; give `on_progress`, which also heeds either signal.

    Python drops a KeyboardInterrupt that happens to be raised in a destructor, and tracing runs
    many; a converter may turn one into an error of its own. So a signal is remembered too, and
    raised again at the next stage, or in place of any other error.
    """
    received = False

    def stop(signum: int, frame: object) -> None:
        nonlocal received
        received = True
        raise KeyboardInterrupt

    def heed(stage: str, share: float) -> None:
        if received:
            raise KeyboardInterrupt
        on_progress(stage, share)

    # A signal that the parent set to be ignored, as shells do for background jobs, stays so.
    numbers = (signal.SIGINT, signal.SIGTERM)
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield heed
    except Exception:
        if received:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """Show the stage, the share done and the time left on stderr."""
    if quiet:
        yield lambda stage, share: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # The stages are few and long: the time left is judged by all of them, not the last seconds.
    bars = Progress(*columns, console=Console(stderr=True), speed_estimate_period=86_400)
    bar = bars.add_task("", total=1.0)

    def show(stage: str, share: float) -> None:
        bars.start()  # not before the first stage: a download shows bars of its own
        bars.update(bar, description=stage, completed=share)

    try:
        yield show
    finally:
        bars.stop()
