"""The most that was resident, stage by stage."""

import pytest

from pleinair.bench import memory

pytestmark = pytest.mark.skipif(memory.resident() is None, reason="needs psutil here")

BALLAST = 200_000_000


def test_each_stage_has_its_own_peak() -> None:
    with memory.Stages("open") as stages:
        stages.enter("load")
        ballast = bytearray(b"x" * BALLAST)
        stages.enter("denoise")
        assert len(ballast) == BALLAST
        del ballast
        stages.enter("decode")
        stages.enter("decode")
    assert list(stages.peaks) == ["open", "load", "denoise", "decode"]
    assert stages.peaks["load"] > stages.peaks["open"] + 0.9 * BALLAST
    assert stages.peaks["denoise"] > stages.peaks["open"] + 0.9 * BALLAST
    assert stages.peaks["decode"] < stages.peaks["denoise"]


def test_it_looks_by_itself_while_a_stage_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([10, 70])
    monkeypatch.setattr(memory, "resident", lambda: next(readings, 20))
    with memory.Stages("load") as stages:
        while "load" not in stages.peaks or stages.peaks["load"] < 70:
            pass
    assert stages.peaks == {"load": 70}


def test_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident", lambda: None)
    with memory.Stages("load") as stages:
        stages.enter("denoise")
    assert stages.peaks == {}
