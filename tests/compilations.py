"""Graphs of the folders that tests share, compiled once in a process whichever pipeline asks."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MOST = 40


class Compilations:
    """Those used last, of files below `folders`, which nobody changes."""

    def __init__(self, *folders: Path) -> None:
        self.folders = {folder.resolve() for folder in folders}
        self.lock = threading.Lock()
        self.kept: OrderedDict[str, Any] = OrderedDict()

    def once(self, compile: Callable[..., Any]) -> Callable[..., Any]:
        """An engine's `compile`, which gives the graph it has to whoever asks for the same."""

        def compiled(engine: Any, path: Path, shapes: Any, edits: Any = ()) -> Any:
            keys = [edit.key for edit in edits]
            file = path.resolve()  # which links of other names lead to
            if None in keys or self.folders.isdisjoint(file.parents):
                return compile(engine, path, shapes, edits)
            sizes = sorted((name, *size) for name, size in shapes.items())
            key = repr((_settings(engine), file, sizes, keys))
            with self.lock:
                graph = self.kept.get(key)
            if graph is None:
                graph = compile(engine, path, shapes, edits)
            with self.lock:
                self.kept[key] = graph
                self.kept.move_to_end(key)
                if len(self.kept) > _MOST:
                    self.kept.popitem(last=False)
            return graph

        return compiled


def _settings(engine: Any) -> list[Any]:
    plain = (str, int, tuple, dict, type(None))
    told = sorted((name, value) for name, value in vars(engine).items() if isinstance(value, plain))
    return [type(engine).__name__, *told]
