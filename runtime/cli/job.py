"""The job over a prompt file: what it is told from others by, and what of it is done."""

import argparse
import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import PromptError
from ..exits import tell
from ..images.condition import split
from ..model.bundle import Bundle
from ..model.controlnet import weighed
from ..text.networks import loras_named
from .adapters import find
from .journal import Journal

# Content counts, wherever files stand, and the name of the model.
_ELSEWHERE = {
    "from_file",
    "outdir",
    "params_from",
    "threads",
    "cache_dir",
    "max_memory",
    "model",
    "tokenizer",
    "lora_dir",
    "preview",
    "preview_every",
}


def journal_of(
    options: argparse.Namespace, bundle: Bundle, lines: Sequence[argparse.Namespace], seed: int
) -> contextlib.AbstractContextManager[Journal | None]:
    """The journal of a prompt file's job; none for what is one picture, or is not saved."""
    if not options.from_file or options.output or options.skip_save:
        return contextlib.nullcontext()
    inputs = {
        "model": [bundle.name, bundle.digest],
        "lines": [
            {name: value for name, value in vars(line).items() if name not in _ELSEWHERE}
            for line in lines
        ],
        "files": [_digest(path) for line in lines for path in _files_read(line)],
    }
    return Journal(options.outdir, inputs, seed)


def painted_before(journal: Journal | None, pictures: Iterable[int]) -> dict[int, Path | None]:
    """What a job has painted already, by the picture's number; None is a picture withheld."""
    if journal is None:
        return {}
    numbers = list(pictures)
    files: dict[int, Path | None] = {}
    for i in numbers:
        if (path := journal.done(str(i))) or journal.withheld(str(i)):
            files[i] = path
    if numbers and len(files) == len(numbers):
        tell(
            f"painted before: {journal.path} says so; for other pictures give another --seed "
            "or --outdir, for the same ones again delete it",
        )
    elif files:
        tell(f"going on after {len(files)} of {len(numbers)} pictures")
    return files


def _files_read(line: argparse.Namespace) -> list[Path]:
    """The files whose content changes a line's pictures; what is no file is refused later."""
    followed = [split(source)[0] for source in line.control_image or ()]
    nets = [weighed(named)[0] / "pleinair.json" for named in line.controlnet]
    named = [line.image, line.mask_image, *line.lora, *line.embedding, *followed, *nets]
    paths = [Path(str(name)) for name in named if name]
    # file:0.8 and file:word are weights and words of a file
    stems = [Path(str(path).rpartition(":")[0]) for path in paths if not path.is_file()]
    return [path for path in (*paths, *stems, *_loras_named(line)) if path.is_file()]


def _loras_named(line: argparse.Namespace) -> list[Path]:
    with contextlib.suppress(PromptError):
        named = loras_named(line.prompt or "")[1]
        return [path for name, _ in named if (path := find(name, line.lora_dir))]
    return []


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
