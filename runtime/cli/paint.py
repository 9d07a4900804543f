"""The painting command: arguments in, pictures out."""

import argparse
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from ..errors import PleinairError, PromptError, SettingError
from ..exits import MISTAKE, tell
from ..families.family import Family
from ..images import watermark
from ..images.grid import grid
from ..images.sheets import placard
from ..options.groups import DEFAULT_PROMPT
from ..record.saving import check_target, next_numbered, save, save_numbered
from ..request import consecutive
from .arguments import CALL, flags, given
from .compare import Comparison
from .description import description
from .estimate import Estimate, Speeds
from .job import journal_of, painted_before
from .journal import Journal
from .live import Preview, PreviewTerminal, looking, preview_of
from .picture import Picture, how_many, pictures_of
from .pipelines import Pipelines, family_of
from .progress import StageBars
from .prompts import PromptFile, PromptLine, read_prompts
from .repeat import restore

# Nothing is wrong, but a file that was asked for is not there.
WITHHELD = 3
_GRID = "grid"
# The side of a sign in the place of a picture whose size nobody asked for.
_SIGN = 256

Made = TypeVar("Made")


@dataclass(frozen=True)
class Painted:
    """A picture, and what its file says; image None: withheld, and why."""

    image: Image.Image | None
    record: Mapping[str, Any]
    why: str = ""

    @property
    def shown(self) -> Image.Image:
        """For sheets: the picture, or words in its place."""
        return self.image or _withheld_sign(self.record)


def paint(options: argparse.Namespace) -> int:
    """Paint all that the options ask for.

    Returns 2 where lines of the prompt file were left out, else 3 where pictures were withheld.
    """
    restored = restore(options) if options.params_from else None
    comparison = Comparison.parsed(options.compare) if options.compare else None
    _check_options(options, comparison)
    preview = preview_of(options)
    family = family_of(options)
    if restored:
        restored.fit(options, family)
    file = PromptFile([PromptLine(0, options)], [])
    if options.from_file:
        file = read_prompts(options.from_file, options)
    counts = _each(file, lambda line: how_many(line.options))
    if comparison:
        return _paint_comparison(options, family, comparison, preview)
    seed = consecutive(options.seed, max(counts.values()))[0]
    lines = [line.options for line in file.lines]
    with journal_of(options, family.bundle, lines, seed) as journal:
        # A job that goes on has the seed that it began with.
        pictures = _pictures(file, counts, journal.seed if journal else seed)
        withheld = _paint_job(options, family, file, pictures, journal, preview)
    for number, what in sorted(file.bad):
        tell(f"{file.path}: line {number} left out: {what}")
    return MISTAKE if file.bad else WITHHELD if withheld else 0


def _each(file: PromptFile, make: Callable[[PromptLine], Made]) -> dict[int, Made]:
    """What is made of each line, by its number; lines that cannot be used become bad ones.

    Raises the error itself where the line is the command line, and PromptError where none is left.
    """
    made = {}
    for line in file.lines:
        if line.number in {number for number, _ in file.bad}:
            continue
        try:
            made[line.number] = make(line)
        except PleinairError as error:
            if not line.number:
                raise
            file.bad.append((line.number, error.spelled(flags())))
    if not made:
        number, what = min(file.bad)
        raise PromptError(f"{file.path}: no line can be painted; line {number}: {what}")
    return made


def _pictures(file: PromptFile, counts: Mapping[int, int], seed: int) -> dict[int, Picture]:
    """The pictures of all lines, numbered so that a line left out moves no other's."""
    made = _each(file, lambda line: pictures_of(line.options, seed, line.number))
    pictures: dict[int, Picture] = {}
    first = 0
    for number, count in counts.items():
        pictures.update(enumerate(made.get(number, ()), start=first))
        first += count
    return pictures


def _paint_job(
    options: argparse.Namespace,
    family: Family,
    file: PromptFile,
    pictures: dict[int, Picture],
    journal: Journal | None,
    preview: Preview | None,
) -> bool:
    """Paint what is not there yet, each picture saved as soon as it is done; then the sheet.

    Returns whether one was withheld.
    """
    files = painted_before(journal, pictures)
    _check(options, len(pictures), journal.owner if journal else "")
    images: dict[int, Image.Image] = {}
    try:
        if waiting := {i: picture for i, picture in pictures.items() if i not in files}:
            pipelines = Pipelines(options, family)
            waiting = _checked(pipelines, file, waiting)
            painting = _paint_all(pipelines, options, list(waiting.values()), preview)
            for i, painted in zip(waiting, painting, strict=True):
                images[i] = painted.shown
                if painted.image is None:
                    files[i] = None
                    if journal:
                        journal.withhold(str(i), painted.why)
                elif not options.skip_save:
                    files[i] = _save(painted.image, painted.record, options, journal, i)
        done = [i for i in pictures if i in images or i in files]
        if len(done) > 1 and not (options.skip_grid or options.output):
            sheet = [images[i] if i in images else _saved(files[i], pictures[i]) for i in done]
            files[1 + max(done)] = _save_grid(options, sheet, journal)
    finally:
        # After Ctrl-C too: the pictures that are finished are whole, and named.
        for _, path in sorted(files.items()):
            if path is not None:
                print(path)
    return None in files.values()


def _checked(
    pipelines: Pipelines, file: PromptFile, pictures: Mapping[int, Picture]
) -> dict[int, Picture]:
    """Those whose calls can be planned; a line of which one cannot is left out."""

    def check(line: PromptLine) -> None:
        for picture in pictures.values():
            if picture.line == line.number:
                pipelines.check(picture)

    fine = _each(file, check)
    return {i: picture for i, picture in pictures.items() if picture.line in fine}


def _paint_comparison(
    options: argparse.Namespace,
    family: Family,
    comparison: Comparison,
    preview: Preview | None,
) -> int:
    """One picture a cell, all from one seed; the sheets are saved beside them."""
    base = given(options, CALL)
    base.setdefault("prompt", DEFAULT_PROMPT)
    base["seed"] = consecutive(options.seed, 1)[0]
    cells = [{**base, **cell} for cell in comparison.cells()]
    for cell in cells:
        cell["seed"] = consecutive(cell["seed"], 1)[0]
    pictures = [
        Picture.of(cell, options, cell["seed"] if options.fixed_code else options.noise_seed)
        for cell in cells
    ]
    _check(options, len(pictures))
    pipelines = Pipelines(options, family)
    for picture in pictures:
        pipelines.check(picture)
    done: list[Painted] = []
    try:
        for painted in _paint_all(pipelines, options, pictures, preview):
            done.append(painted)
            if painted.image and not options.skip_save:
                print(_save(painted.image, painted.record, options))
    finally:
        images = [painted.shown for painted in done]
        for board in comparison.sheets(images) if len(done) == len(pictures) else ():
            records = [painted.record for painted in done]
            common = {name: value for name, value in records[0].items() if _same(name, records)}
            print(save_numbered(board, options.outdir, common, prefix="compare-", digits=4))
    return WITHHELD if any(painted.image is None for painted in done) else 0


def _same(name: str, records: Sequence[Mapping[str, Any]]) -> bool:
    return all(record.get(name) == records[0].get(name) for record in records)


def _paint_all(
    pipelines: Pipelines,
    options: argparse.Namespace,
    pictures: Sequence[Picture],
    preview: Preview | None,
) -> Iterator[Painted]:
    """One call a picture, so that each can be saved as soon as it is done."""
    above = preview if isinstance(preview, PreviewTerminal) else None
    with StageBars(len(pictures), above) as bars:
        estimate = Estimate(len(pictures), bars, Speeds.of_user(), watched=sys.stderr.isatty())
        for picture in pictures:
            pipe = pipelines.of(picture)
            plan = pipe.plan(
                **picture.call(options),
                callback_on_step_end=looking(preview, options.preview_every) if preview else None,
                callback_on_stage=estimate,
            )
            estimate.begins(pipe, plan)
            output = plan.paint()
            estimate.painted(output.timings.steps)
            image: Image.Image | None = output.images[0]
            if preview and image:
                preview.show(image)
            elif preview:
                preview.clear()  # previews are not checked: what is withheld must not stay
            if image and options.watermark is not None:
                image = watermark.embed(image, options.watermark)
            bars.picture_done()
            why = "; ".join(map(str, output.verdicts))
            yield Painted(image, description(pipe, options, picture, plan), why)


def _saved(path: Path | None, picture: Picture) -> Image.Image:
    """A picture that an earlier run has painted, for the sheet."""
    return Image.open(path) if path else _withheld_sign(picture.settings)


def _withheld_sign(settings: Mapping[str, Any]) -> Image.Image:
    width, height = (settings.get(side, _SIGN) for side in ("width", "height"))
    return placard("withheld by the safety checker", width, height)


def _check_options(options: argparse.Namespace, comparison: Comparison | None) -> None:
    if options.n_rows < 0:
        raise SettingError(f"--n_rows is {options.n_rows}; give 0 or more")
    many = options.n_samples * options.n_iter > 1 or options.from_file or options.output
    if comparison and many:
        raise SettingError(
            "--compare paints one picture a cell; leave out --n_samples, --n_iter, --from-file "
            "and --output, or compare seed=1,2 and prompt=a cat|a dog"
        )


def _check(options: argparse.Namespace, pictures: int, owner: str = "") -> None:
    """Refuse now what could not be saved after minutes of painting."""
    if options.skip_save and options.skip_grid and not options.compare:
        return
    if options.output and pictures > 1:
        raise SettingError(f"--output names one picture, {pictures} are asked for; use --outdir")
    check_target(options.output or next_numbered(options.outdir / "samples"), owner)


def _save(
    image: Image.Image,
    record: Mapping[str, Any],
    options: argparse.Namespace,
    journal: Journal | None = None,
    number: int = 0,
) -> Path:
    if options.output:
        return save(image, options.output, record)
    folder = options.outdir / "samples"
    if journal is None:
        return save_numbered(image, folder, record)
    announce = functools.partial(journal.tell, str(number))
    return save_numbered(image, folder, record, owner=journal.owner, announce=announce)


def _save_grid(
    options: argparse.Namespace, pictures: Sequence[Image.Image], journal: Journal | None
) -> Path:
    if journal and (path := journal.done(_GRID)):
        return path
    sheet = grid(pictures, options.n_rows or how_many(options))
    if journal is None:
        return save_numbered(sheet, options.outdir, prefix="grid-", digits=4)
    announce = functools.partial(journal.tell, _GRID)
    return save_numbered(
        sheet, options.outdir, prefix="grid-", digits=4, owner=journal.owner, announce=announce
    )
