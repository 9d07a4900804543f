"""Rates and shares of the peak, against numbers worked out by hand."""

from typing import Any

import pytest

from pleinair.bench import roofline
from pleinair.runtime.speed.spread import Spread


def _record(number: int, **seconds: list[float]) -> dict[str, Any]:
    graphs = [{"part": name, "key": "1", "seconds": spent} for name, spent in seconds.items()]
    return {"name": "a", "round": number, "graphs": graphs}


def _tally(**flops: tuple[int, int]) -> dict[str, Any]:
    graphs = [
        {"part": name, "key": "1", "flops": {"total": total, "int8": int8}}
        for name, (total, int8) in flops.items()
    ]
    return {"graphs": graphs}


def test_the_roof_is_that_of_the_mixture() -> None:
    """400 at 100 a second and 800 in int8 at 400 a second: 6 s at best; it took 12 and 8."""
    records = [_record(1, unet=[12.0, 12.0, 99.0]), _record(2, unet=[8.0])]
    peaks = {1: (100.0, 400.0), 2: (100.0, 400.0)}
    [row] = roofline.rows("a", records, _tally(unet=(1200, 800)), peaks)
    assert row.share == Spread(0.625, 0.5, 0.75)
    assert row.rate == Spread(pytest.approx(125e-9), pytest.approx(100e-9), pytest.approx(150e-9))
    assert row.evaluations == 2
    assert "67%" in row.cells()


def test_shares_are_of_the_peak_of_the_same_round() -> None:
    records = [_record(1, unet=[1.0]), _record(2, unet=[2.0])]
    [row] = roofline.rows("a", records, _tally(unet=(60, 0)), {1: (100.0, None), 2: (50.0, None)})
    assert row.share == Spread(0.6, 0.6, 0.6)


def test_what_is_not_known_is_a_dash() -> None:
    records = [_record(1, unet=[1.0], vae_decoder=[2.0], text_encoder=[])]
    rows = roofline.rows("a", records, _tally(unet=(60, 30)), {1: (100.0, None)})
    assert [row.part for row in rows] == ["unet", "vae_decoder"]
    assert rows[0].share is None  # its int8 part has no peak
    assert rows[0].rate is not None
    assert rows[1].flops is rows[1].rate is None
    assert "| – |" in roofline.markdown(rows)


def test_the_heavy_graphs_are_those_with_a_twentieth_of_the_work() -> None:
    records = [_record(1, denoiser=[1.0] * 20, decoder=[1.0], text_encoder=[1.0])]
    tally = _tally(denoiser=(90, 0), decoder=(100, 0), text_encoder=(5, 0))
    rows = roofline.rows("a", records, tally, {1: (100.0, None)})
    assert [row.part for row in roofline.heavy(rows)] == ["denoiser", "decoder"]
