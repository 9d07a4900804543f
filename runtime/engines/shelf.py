"""Compiled graphs in memory: which are there, and which make room for others."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Message, SettingError
from .heap import give_back
from .protocol import Feeds, Graph

# Interpreter, libraries, tokenizer, pictures: what is resident beside graphs.
_BESIDE = 200 << 20


@dataclass(eq=False)
class _Kept:
    """A graph, and what it is compiled for.

    calls: of those under way; a graph that computes cannot make room.
    """

    name: str
    wanted: Any
    needs: int
    graph: Graph
    calls: int = 0


@dataclass
class Together:
    """The graphs of one call that work in turn in every step: none makes room for another.

    needs: name -> bytes. wanted: name -> what the call wants the graph compiled for.
    """

    needs: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, wanted: Any, needs: int) -> None:
        """A graph of a name, in place of one of the same name for something else."""
        self.wanted[name], self.needs[name] = wanted, needs

    def holds(self, name: str, wanted: Any) -> bool:
        """Whether a graph is of this call: another call's of the same name is not."""
        return name in self.wanted and bool(self.wanted[name] == wanted)


@dataclass
class Shelf:
    """Compiled graphs in memory, those of one model or, given to several pipelines, of all of them.

    What two of them have in common is compiled once: of two LoRA files on one model all but what
    the files change, of two profiles what they compute alike.

    most: bytes that the process may take, None for any. With it a graph is compiled when it is
        called, and stays, of one name also those for several sizes; where all do not fit, those
        used longest ago make room, as soon as no call of another thread computes with them.
        Without it one graph of each name stays, and calls take turns for graphs of one name alone,
        so that graphs of several names are compiled at once.
    """

    most: int | None = None
    _kept: list[_Kept] = field(default_factory=list)  # used last stands last
    _turn: threading.Condition = field(default_factory=threading.Condition)
    _turns: dict[str, threading.Lock] = field(default_factory=dict)

    def graph(
        self,
        name: str,
        wanted: Any,
        compile: Callable[[], Graph],
        *,
        needs: int = 0,
        together: Together | None = None,
        folder: Path | None = None,
    ) -> Graph:
        """The graph of a name, compiled unless it is there.

        wanted: what it is compiled for, by which it is known again.
        needs: its bytes. together: the graphs of the same call that it stays together with.
        folder: where its file lies; those of other folders go by the same name beside it.
        Raises SettingError where it, or all those, do not fit by themselves.
        """
        key = name if folder is None else f"{name} of {folder}"
        if self.most is None:
            with self._turn:
                turn = self._turns.setdefault(key, threading.Lock())
            with turn:
                return self._compiled(key, wanted, compile)
        stay = together or Together()
        stay.add(key, wanted, needs)
        self.check(name, sum(stay.needs.values()))

        def on_demand(feeds: Feeds) -> dict[str, NDArray[np.float32]]:
            with self._used(key, wanted, compile, needs, stay) as graph:
                return graph(feeds)

        return on_demand

    def clear(self) -> None:
        """Let go of all graphs; those that are asked for later are compiled anew."""
        with self._turn:
            self._kept.clear()
            give_back()

    def drop(self, unwanted: Callable[[Any], bool]) -> None:
        """Let go of some graphs. unwanted: of what one is compiled for, whether it is to go."""
        with self._turn:
            self._kept = [kept for kept in self._kept if not unwanted(kept.wanted)]
            give_back()

    def check(self, name: str, needs: int) -> None:
        """SettingError, with the smallest number that would do, where `needs` are too many."""
        if self.most is not None and _BESIDE + needs > self.most:
            raise SettingError(
                Message(
                    "{max_memory} is {0}, and the {1} takes about {2} by itself: give more, or "
                    "paint smaller, with {tile}, or with {profile} balanced",
                    _gigabytes(self.most),
                    name,
                    _gigabytes(_BESIDE + needs),
                )
            )

    def _compiled(self, name: str, wanted: Any, compile: Callable[[], Graph]) -> Graph:
        """The graph of a name where memory has no limit; one thread at a time for a name."""
        with self._turn:
            if kept := self._found(name, wanted):
                return kept.graph
            before = len(self._kept)
            self._kept = [kept for kept in self._kept if kept.name != name]  # memory is needed
            if len(self._kept) < before:
                give_back()
        made = _Kept(name, wanted, 0, compile())
        with self._turn:
            self._kept.append(made)
        return made.graph

    @contextmanager
    def _used(
        self, name: str, wanted: Any, compile: Callable[[], Graph], needs: int, stay: Together
    ) -> Iterator[Graph]:
        """The graph of a name for one call, which waits until it is there or has room."""
        with self._turn:
            self._turn.wait_for(lambda: self._has_room(name, wanted, needs, stay))
            kept = self._fetched(name, wanted, compile, needs, stay)
            kept.calls += 1
        try:
            yield kept.graph
        finally:
            with self._turn:
                kept.calls -= 1
                self._turn.notify_all()

    def _fetched(
        self, name: str, wanted: Any, compile: Callable[[], Graph], needs: int, stay: Together
    ) -> _Kept:
        kept = self._found(name, wanted)
        if kept is not None:
            self._kept.remove(kept)
        else:
            if found := self._in_the_way(needs, stay):
                self._kept = [other for other in self._kept if other not in found]
                found.clear()  # the last who held them
                give_back()
            kept = _Kept(name, wanted, needs, compile())
        self._kept.append(kept)
        return kept

    def _found(self, name: str, wanted: Any) -> _Kept | None:
        named = (kept for kept in self._kept if kept.name == name)
        return next((kept for kept in named if kept.wanted == wanted), None)

    def _has_room(self, name: str, wanted: Any, needs: int, stay: Together) -> bool:
        """Whether a graph is there, or all that would make way for it is at rest."""
        if self._found(name, wanted):
            return True
        return not any(kept.calls for kept in self._in_the_way(needs, stay))

    def _in_the_way(self, needs: int, stay: Together) -> list[_Kept]:
        """The graphs that make room for one that is not there, those used longest ago first."""
        assert self.most is not None  # without a limit nothing is in the way
        left = self.most - _BESIDE - needs - sum(kept.needs for kept in self._kept)
        found = []
        for kept in self._kept:
            if left >= 0:
                break
            if not stay.holds(kept.name, kept.wanted):
                found.append(kept)
                left += kept.needs
        return found


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
