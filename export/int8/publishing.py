"""Graphs added to a model folder that is in use: whole or not at all, and in its manifest."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import ExportError
from pleinair.runtime.files import replacing
from pleinair.runtime.hub.folders import alone, sync, sync_directory
from pleinair.runtime.model.bundle import GRAPH_FILES, Bundle

from .. import manifest

_PARTIAL = ".int8.partial-"


@contextlib.contextmanager
def publishing(
    bundle: Bundle, names: Sequence[str], formats: Sequence[str], overwrite: bool
) -> Iterator[Path]:
    """`staging`, with folders of these names in it for graphs of these formats.

    What the model's folders of those names hold in another format is in them already. Raises
    ExportError where a graph is there and may not be replaced, or there is no room.
    """
    for name in names:
        for form in formats:
            graph = bundle.path / name / GRAPH_FILES[form]
            if graph.exists() and not overwrite:
                raise ExportError(f"{graph} exists; to replace it add --overwrite")
    _check_room(bundle, formats)
    ours = tuple(GRAPH_FILES[form].partition(".")[0] + "." for form in formats)
    with staging(bundle) as made:
        for name in names:
            (made / name).mkdir()
            if (bundle.path / name).is_dir():
                for file in (bundle.path / name).iterdir():
                    if not file.name.startswith(ours):
                        shutil.copy2(file, made / name)
        yield made


def _check_room(bundle: Bundle, formats: Sequence[str]) -> None:
    """Raise ExportError unless the disk holds what lies beside the model until all is done.

    That is the denoiser once more, its smoothed weights, what goes from layer to layer of some
    samples (of Stable Diffusion XL 0.1 GB each), and the graphs that are made. Of an ONNX graph
    weights are float32 until then.
    """
    times = 4 if "onnx" in formats else 3
    folders = {file.parent for parts in bundle.graphs.values() for file in parts.values()}
    needed = times * sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    free = shutil.disk_usage(bundle.path).free
    if free < needed:
        raise ExportError(
            f"{bundle.path}: while it is quantized up to {needed / 1e9:.1f} GB lie beside it, and "
            f"its disk has {free / 1e9:.1f} GB free; free some space or move it to another disk"
        )


@contextlib.contextmanager
def staging(bundle: Bundle) -> Iterator[Path]:
    """An empty folder inside the model's, which is gone when the block ends, well or not.

    Only a killed process leaves it, and the next one removes it. Raises ExportError where another
    process is quantizing the same model, or nothing can be written there.
    """
    with alone(bundle.path.resolve(), "quantization"):
        for left in bundle.path.glob(f"{_PARTIAL}*"):
            shutil.rmtree(left, ignore_errors=True)
        partial = bundle.path / f"{_PARTIAL}{secrets.token_hex(4)}"
        try:
            partial.mkdir()
        except OSError as error:
            raise ExportError(f"cannot write in {bundle.path}: {error.strerror}") from error
        try:
            yield partial
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ExportError(f"the disk of {bundle.path} is full; free some space") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def publish(
    bundle: Bundle,
    made: Path,
    names: Sequence[str],
    facts: Mapping[str, Mapping[str, Any]],
) -> None:
    """Rename the folders in `made` to where they belong, and describe them in the manifest.

    facts: part -> format -> what is to be said of the graph, under "int8".
    The manifest never lists a file that is not there: what is replaced leaves it first.
    """
    for name in names:
        sync(made / name)
    files = {
        path.relative_to(made).as_posix(): manifest.describe(path)
        for name in names
        for path in sorted((made / name).rglob("*"))
        if path.is_file()
    }
    file, before = bundle.path / manifest.FILE, dict(bundle.manifest)
    stay = {
        name: described
        for name, described in before.get("files", {}).items()
        if name.partition("/")[0] not in names
    }
    if before:
        write_whole(file, manifest.text(before | {"files": stay}))
    moved: list[str] = []
    try:
        for name in names:
            moved.append(name)
            if (bundle.path / name).exists():
                (bundle.path / name).rename(made / f"{name}.replaced")
            (made / name).rename(bundle.path / name)
        known = before or {"format_version": manifest.FORMAT_VERSION}
        int8 = dict(known.get("int8", {}))
        for part, graphs in facts.items():
            int8[part] = {**int8.get(part, {}), **graphs}
        write_whole(file, manifest.text(known | {"files": stay | files, "int8": int8}))
    except BaseException:  # Ctrl-C too
        _restore(bundle.path, made, moved)
        if before:
            write_whole(file, manifest.text(before))
        raise


def _restore(folder: Path, made: Path, names: Sequence[str]) -> None:
    for name in names:
        if not (made / name).exists() and (folder / name).exists():
            (folder / name).rename(made / name)
        if (made / f"{name}.replaced").exists():
            (made / f"{name}.replaced").rename(folder / name)


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old one or the new one, never a part."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    sync_directory(path.parent)
