"""Medians, ranges and ratios, against numbers worked out by hand."""

import pytest

from pleinair.bench.rounds import Rounds
from pleinair.runtime.speed.spread import Spread


def _record(name: str, number: int, seconds: float, memory: float | None = 1.0) -> dict:
    return {"name": name, "round": number, "seconds": seconds, "memory": memory}


def _rounds(*records: dict) -> Rounds:
    measures = {"s": lambda record: record["seconds"], "GB": lambda record: record["memory"]}
    return Rounds("base", measures, list(records))


def test_ratios_are_taken_within_a_round_so_that_drift_cancels() -> None:
    rounds = _rounds(
        _record("base", 1, 2.0),
        _record("ours", 1, 1.0),
        _record("base", 2, 8.0),
        _record("ours", 2, 4.0),
        _record("base", 3, 20.0),
        _record("ours", 3, 5.0),
    )
    assert rounds.spreads()["ours"]["s"] == Spread(4.0, 1.0, 5.0)
    # The ratio of the medians would be 8 / 4 with an invented range; these are 2, 2 and 4.
    assert rounds.ratios() == {"ours": {"s": Spread(2.0, 2.0, 4.0), "GB": Spread(1.0, 1.0, 1.0)}}


def test_a_round_without_the_baseline_gives_no_ratio() -> None:
    rounds = _rounds(_record("ours", 1, 1.0), _record("base", 2, 6.0), _record("ours", 2, 2.0))
    assert rounds.ratios()["ours"]["s"] == Spread(3.0, 3.0, 3.0)
    assert _rounds(_record("ours", 1, 1.0)).ratios() == {}


def test_an_unknown_value_is_a_dash_not_a_zero() -> None:
    rounds = _rounds(_record("base", 1, 3.0), _record("ours", 1, 1.5, memory=None))
    assert rounds.spreads()["ours"]["GB"] is None
    lines = rounds.markdown().splitlines()
    assert "| ours | 1.5 (1.5 to 1.5) | – |" in lines
    assert "| ours | 2 (2 to 2) | – |" in lines
    assert rounds.as_json()["summary"]["ours"]["GB"] is None


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (8.046, "8.05"), (163.6, "164"), (7310.0, "7,310")]
)
def test_three_digits_count(value: float, text: str) -> None:
    assert str(Spread(value, value, value)).split(" ")[0] == text
