"""A model's compiled graphs: which are there, and which make room for others."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from .heap import give_back
from .protocol import Feeds, Graph

Place = tuple[str, bool]
"""A part, and whether it is the shallow one of two."""

_WHOLE: Place = ("unet", False)
# Interpreter, libraries, tokenizer, pictures: what is resident beside graphs.
_BESIDE = 200 << 20


@dataclass(frozen=True)
class _Kept:
    wanted: Any
    needs: int
    graph: Graph


@dataclass
class Shelf:
    """Compiled graphs, one a place.

    most: bytes that the process may take, None for any. With it a graph is compiled when it is
        called, and where all do not fit, those used longest ago make room. Graphs that work in turn
        in every step, UNet and ControlNets, stay together. Calls from several threads take turns.
    """

    most: int | None = None
    _kept: dict[Place, _Kept] = field(default_factory=dict)
    _together: dict[Place, int] = field(default_factory=dict)
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def graph(self, place: Place, wanted: Any, needs: int, compile: Callable[[], Graph]) -> Graph:
        """The graph at a place, compiled unless it is the one there.

        wanted: what it is compiled for; one for anything else makes way. needs: its bytes.
        Raises SettingError where it, or what works in every step, does not fit by itself.
        """
        if self.most is None:
            return self._fetched(place, wanted, needs, compile)
        if _steps(place):
            if place == _WHOLE:  # the first that a call asks for
                self._together.clear()
            self._together[place] = needs
        self.check(place[0], sum(self._together.values()) if _steps(place) else needs)

        def on_demand(feeds: Feeds) -> dict[str, NDArray[np.float32]]:
            with self._turn:
                return self._fetched(place, wanted, needs, compile)(feeds)

        return on_demand

    def check(self, part: str, needs: int) -> None:
        """SettingError, with the smallest number that would do, where `needs` are too many."""
        if self.most is not None and _BESIDE + needs > self.most:
            raise SettingError(
                f"max_memory is {_said(self.most)}, and the {part} takes about "
                f"{_said(_BESIDE + needs)} by itself: give more, or paint smaller, with tile, or "
                "with profile balanced"
            )

    def _fetched(
        self, place: Place, wanted: Any, needs: int, compile: Callable[[], Graph]
    ) -> Graph:
        with self._turn:
            kept = self._kept.pop(place, None)
            if kept is None or kept.wanted != wanted:
                kept = None  # its memory is needed
                self._make_room(place, needs)
                give_back()
                kept = _Kept(wanted, needs, compile())
            self._kept[place] = kept  # last of all: used last
            return kept.graph

    def _make_room(self, place: Place, needs: int) -> None:
        if self.most is None:
            return
        left = self.most - _BESIDE - needs - sum(kept.needs for kept in self._kept.values())
        for other in list(self._kept):
            if left >= 0:
                return
            if not {place, other} <= self._together.keys():
                left += self._kept.pop(other).needs


def _steps(place: Place) -> bool:
    """Whether it works in every step."""
    return place[0].startswith(("unet", "controlnet"))


def _said(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
