"""Compiling beside other work: in order, and over when the block is."""

import threading

import pytest

from pleinair.runtime.engines.ahead import Ahead
from pleinair.runtime.engines.shelf import Shelf


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if "pleinair-compile" in one.name]


def test_one_after_the_other() -> None:
    done: list[int] = []
    with Ahead() as ahead:
        for number in range(5):
            ahead.begin(lambda number=number: done.append(number))
        ahead.begin(lambda: None).result()
    assert done == [0, 1, 2, 3, 4]
    assert not threads()


def test_without_work_there_is_no_thread() -> None:
    with Ahead():
        assert not threads()


def test_an_interruption_drops_what_has_not_begun() -> None:
    begun, go, done = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        go.wait()
        done.append("first")

    def interrupted() -> None:
        with Ahead() as ahead:
            ahead.begin(first)
            ahead.begin(lambda: done.append("second"))
            begun.wait()
            threading.Timer(0.05, go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["first"]
    assert not threads()


def test_graphs_of_several_names_are_compiled_at_once() -> None:
    """Each waits for the other: in turn they would wait for ever."""
    shelf, both = Shelf(), threading.Barrier(2, timeout=10)

    def compile() -> object:
        both.wait()
        return object()

    with Ahead() as ahead:
        other = ahead.begin(lambda: shelf.graph("unet", 1, compile))  # type: ignore[arg-type]
        shelf.graph("vae", 1, compile)  # type: ignore[arg-type]
        other.result()


def test_a_graph_that_is_being_compiled_is_waited_for() -> None:
    shelf, go, compiled = Shelf(), threading.Event(), []

    def compile() -> object:
        go.wait()
        compiled.append(object())
        return compiled[-1]

    with Ahead() as ahead:
        first = ahead.begin(lambda: shelf.graph("unet", 1, compile))  # type: ignore[arg-type]
        threading.Timer(0.05, go.set).start()
        assert shelf.graph("unet", 1, compile) is first.result()  # type: ignore[arg-type]
    assert len(compiled) == 1
