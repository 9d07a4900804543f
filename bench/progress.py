"""The bar on stderr: what is being measured, how much is done, the time left."""

from typing import Any


def bars() -> Any:
    """A rich Progress to be entered. Its console prints above the bar, also into a log file."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<36}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True, soft_wrap=True, highlight=False),
        # Systems differ in speed: only an average over a long while says when the run ends.
        speed_estimate_period=3600,
        transient=True,
    )
