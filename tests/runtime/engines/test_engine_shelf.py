"""Compiled graphs that come and go: which are kept, and calls of several threads near the limit."""

import gc
import itertools
import threading
import weakref
from typing import Any

import pytest

from pleinair.runtime.engines.shelf import Shelf, Together
from pleinair.runtime.errors import SettingError

MB = 1 << 20
BESIDE = 200 * MB  # what a shelf leaves to all that is no graph


class Graphs:
    """Compiles graphs that say what they are; knows which are alive, and how many bytes that is.

    most: the bytes of those alive at once, at most so far.
    """

    def __init__(self) -> None:
        self.alive: dict[int, tuple[str, int]] = {}
        self.compiled: list[str] = []
        self.most = 0
        self._numbers = itertools.count()

    def compiler(self, label: str, needs: int) -> Any:
        def compile() -> Any:
            def graph(feeds: Any) -> dict[str, Any]:
                return {"label": label, "fed": feeds}

            number = next(self._numbers)
            self.alive[number] = (label, needs)
            weakref.finalize(graph, self.alive.pop, number)
            self.compiled.append(label)
            self.most = max(self.most, sum(size for _, size in list(self.alive.values())))
            return graph

        return compile


@pytest.fixture
def graphs() -> Graphs:
    return Graphs()


def labels(graphs: Graphs) -> list[str]:
    gc.collect()
    return sorted(label for label, _ in graphs.alive.values())


def test_without_a_limit_one_of_a_name_is_kept(graphs: Graphs) -> None:
    shelf = Shelf()
    first = shelf.graph("unet", "small", graphs.compiler("small", 1))
    assert graphs.compiled == ["small"]  # at once
    assert shelf.graph("unet", "small", graphs.compiler("other", 1)) is first
    shelf.graph("vae", "small", graphs.compiler("vae", 1))
    del first
    assert labels(graphs) == ["small", "vae"]
    shelf.graph("unet", "large", graphs.compiler("large", 1))
    assert labels(graphs) == ["large", "vae"]


def test_the_old_one_goes_before_the_new_one_comes(graphs: Graphs) -> None:
    shelf = Shelf()
    for wanted in "abc":
        shelf.graph("unet", wanted, graphs.compiler(wanted, 5))
    assert graphs.most == 5


def test_with_a_limit_a_graph_is_compiled_when_it_is_called(graphs: Graphs) -> None:
    shelf = Shelf(BESIDE + 10)
    graph = shelf.graph("unet", "small", graphs.compiler("small", 10), needs=10)
    assert graphs.compiled == []
    assert graph({"x": 1}) == {"label": "small", "fed": {"x": 1}}
    graph({})
    assert graphs.compiled == ["small"]


def test_those_used_longest_ago_make_room(graphs: Graphs) -> None:
    shelf = Shelf(BESIDE + 10)
    made = {
        name: shelf.graph(name, "", graphs.compiler(name, needs), needs=needs)
        for name, needs in {"a": 4, "b": 4, "c": 2, "d": 5}.items()
    }
    for name in "abca":  # a is used last
        made[name]({})
    assert labels(graphs) == ["a", "b", "c"]
    made["d"]({})
    assert labels(graphs) == ["a", "d"]  # b and c are older
    assert graphs.most == 10


def test_with_a_limit_a_name_s_graphs_for_several_sizes_stay(graphs: Graphs) -> None:
    shelf = Shelf(BESIDE + 10)

    def call(size: str, needs: int) -> None:
        shelf.graph("unet", size, graphs.compiler(size, needs), needs=needs)({})

    for _ in range(3):
        call("wide", 4)
        call("high", 4)
    assert graphs.compiled == ["wide", "high"]
    call("large", 6)  # wide was used longest ago
    assert labels(graphs) == ["high", "large"]
    call("high", 4)
    call("wide", 4)
    assert labels(graphs) == ["high", "wide"]
    assert graphs.most == 10


def test_what_does_not_fit_alone_is_refused(graphs: Graphs) -> None:
    shelf = Shelf(BESIDE + 10 * MB)
    with pytest.raises(SettingError, match=r"max_memory is 0\.22 GB, and the unet takes about 0\."):
        shelf.graph("unet", "", graphs.compiler("unet", 0), needs=11 * MB)
    shelf.graph("unet", "", graphs.compiler("unet", 0), needs=10 * MB)
    assert graphs.compiled == []


def test_graphs_of_a_call_are_counted_together(graphs: Graphs) -> None:
    shelf, call = Shelf(BESIDE + 10), Together()
    shelf.graph("unet", "small", graphs.compiler("small", 6), needs=6, together=call)
    with pytest.raises(SettingError, match="the net takes about"):
        shelf.graph("net", "", graphs.compiler("net", 5), needs=5, together=call)
    shelf.graph("net", "", graphs.compiler("net", 5), needs=5, together=Together())
    call = Together()
    shelf.graph("unet", "large", graphs.compiler("large", 9), needs=9, together=call)
    shelf.graph("unet", "small", graphs.compiler("small", 6), needs=6, together=call)
    shelf.graph("net", "", graphs.compiler("net", 4), needs=4, together=call)  # 6 + 4, not 9 + 4


def test_graphs_of_a_call_stay(graphs: Graphs) -> None:
    shelf, call = Shelf(BESIDE + 10), Together()
    unet = shelf.graph("unet", "", graphs.compiler("unet", 6), needs=6, together=call)
    net = shelf.graph("net", "", graphs.compiler("net", 4), needs=4, together=call)
    text = shelf.graph("text", "", graphs.compiler("text", 5), needs=5)
    text({})
    for _ in range(3):
        net({})
        unet({})
    assert graphs.compiled == ["text", "net", "unet"]


def test_another_call_s_graphs_of_the_same_names_make_room(graphs: Graphs) -> None:
    """Else the bytes of both calls are there at once."""
    shelf = Shelf(BESIDE + 30)
    calls = {"large": {"unet": 20, "net": 10}, "small": {"unet": 10, "net": 5, "extra": 15}}
    made = {}
    for kind, parts in calls.items():
        call = Together()
        for name, needs in parts.items():
            compile = graphs.compiler(f"{kind} {name}", needs)
            made[kind, name] = shelf.graph(name, kind, compile, needs=needs, together=call)
    made["large", "unet"]({})
    made["large", "net"]({})
    made["small", "extra"]({})
    assert graphs.most <= 30
    assert labels(graphs) == ["large net", "small extra"]


def test_eight_threads_near_the_limit(graphs: Graphs) -> None:
    """Two kinds of calls that each fit alone, and not both: all are served, each by its graphs."""
    shelf = Shelf(BESIDE + 30)
    kinds = {"large": {"unet": 20, "net": 10}, "small": {"unet": 10, "net": 5, "shallow": 15}}
    errors: list[BaseException] = []
    ready = threading.Barrier(8)

    def call(kind: str) -> None:
        try:
            ready.wait(10)
            for _ in range(5):
                together = Together()  # one a call
                parts = {
                    name: shelf.graph(
                        name,
                        kind,
                        graphs.compiler(f"{kind} {name}", needs),
                        needs=needs,
                        together=together,
                    )
                    for name, needs in kinds[kind].items()
                }
                for step in range(4):
                    for name, graph in parts.items():
                        found = graph({"step": step})
                        assert found == {"label": f"{kind} {name}", "fed": {"step": step}}
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(kind,)) for kind in ("large", "small") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert graphs.most <= 30
    assert sum(size for _, size in graphs.alive.values()) <= 30


def test_some_are_dropped_by_what_they_were_wanted_for(graphs: Graphs) -> None:
    shelf = Shelf()
    for name in ("unet", "vae"):
        for folder in ("a", "b"):
            shelf.graph(f"{name} of {folder}", folder, graphs.compiler(f"{folder} {name}", 1))
    shelf.drop(lambda wanted: wanted == "a")
    assert labels(graphs) == ["b unet", "b vae"]
