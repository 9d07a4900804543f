"""Things in turn: the order, what fails, and what is kept when it is stopped."""

from typing import Any

import pytest

from pleinair.bench import turns
from pleinair.bench.rounds import Rounds
from pleinair.bench.turns import Turn, Turns
from pleinair.runtime.errors import EngineError


def _turns(**answers: Any) -> tuple[Turns, dict[str, Turn]]:
    jobs = {name: Turn("module:function", {"name": name}) for name in answers}
    return Turns(Rounds("a", {"s": lambda record: record["s"]})), jobs


def test_a_b_c_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"a": [1.0, 2.0], "b": [EngineError("too large")], "c": [3.0, KeyboardInterrupt()]}

    def run(target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        answer = times[job["name"]].pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return {"s": answer}

    monkeypatch.setattr(turns, "run_fresh", run)
    measured, jobs = _turns(a=1, b=1, c=1)
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        measured.take(jobs, 2, lambda record: told.append(record["name"]) or "")
    assert told == ["a", "c", "a"]
    found = [(record["name"], record["round"], record["s"]) for record in measured.rounds.records]
    assert found == [("a", 1, 1.0), ("c", 1, 3.0), ("a", 2, 2.0)]
    assert measured.skipped == {"b": "failed in round 1: too large"}
    assert measured.markdown().endswith("b: skipped: failed in round 1: too large")


def test_nothing_at_all_is_an_error() -> None:
    measured, _ = _turns()
    measured.skipped["a"] = "not installed: x"
    with pytest.raises(EngineError, match="nothing could be measured: a: not installed: x"):
        measured.check()
