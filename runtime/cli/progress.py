"""What the user sees while waiting: a bar a stage, with the time left."""

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from .live import PreviewTerminal

_STAGES = {
    "load": "loading the model",
    "encode": "reading the prompt",
    "picture": "reading the picture",
    "denoise": "painting",
    "enlarge": "enlarging",
    "decode": "developing",
}


class _Bars(Progress):
    """Progress bars below something else."""

    above: RenderableType | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.above is not None:
            yield self.above
        yield from super().get_renderables()


class StageBars:
    """A bar for the pictures of a run and one for the stage at hand; silent where nobody looks.

    An instance is the pipeline's `callback_on_stage`, and a context manager around its calls.
    what: another word for the pictures.
    """

    def __init__(
        self, pictures: int, above: PreviewTerminal | None = None, what: str = "pictures"
    ) -> None:
        self._bars = _Bars(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            speed_estimate_period=3600,  # seconds; a picture may take minutes, and a step one
            # Each refresh sends a real picture's bytes anew.
            refresh_per_second=2 if above and above.graphics else 10,
        )
        self._bars.above = self._above = above
        self._bars.disable = not self._bars.console.is_terminal
        self._all = self._bars.add_task(what, total=pictures, visible=pictures > 1)
        self._stage = self._bars.add_task("", total=None, visible=False)

    def __enter__(self) -> "StageBars":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._above:
            self._above.clear()  # a real picture outlives the lines that it stands on
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if done == 0:
            self._bars.reset(self._stage, description=_STAGES[stage], total=total, visible=True)
        self._bars.update(
            self._stage, description=_STAGES[stage], completed=done, total=total, refresh=True
        )

    def picture_done(self) -> None:
        self._bars.advance(self._all)


class TransferBar:
    """A bar for the bytes of a transfer; silent where nobody looks.

    An instance is `transfer.fetch`'s report, and a context manager around it.
    """

    def __init__(self, total: int, done: int) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),  # a stranger's file name
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.disable = not self._bars.console.is_terminal
        self._bar = self._bars.add_task("fetching", total=total, completed=done)

    def __enter__(self) -> "TransferBar":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def __call__(self, file: str, come: int) -> None:
        self._bars.update(self._bar, description=file, advance=come)
