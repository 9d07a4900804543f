"""What a call hands back: images and verdicts in order, and time that is counted once."""

from typing import Any

import pytest

from pleinair.runtime.denoise.variation import Variation
from pleinair.runtime.model.safety import Finding, Verdict
from pleinair.runtime.output import PipelineOutput, Timings

UNSAFE = Verdict((Finding(0, 0.3, 0.2),))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Clock:
        now = 0.0

        def passes(self, seconds: float) -> None:
            self.now += seconds

    made = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: made.now)
    return made


def test_what_is_inside_is_the_inner_block_s_alone(clock: Any) -> None:
    timings = Timings()
    with timings.measure("total"):
        clock.passes(1)
        with timings.measure("encode"):
            clock.passes(2)
            with timings.measure("load"):
                clock.passes(4)
            clock.passes(8)
        with timings.measure("load"):
            clock.passes(16)
    assert (timings.load, timings.encode, timings.total) == (20, 10, 31)


def test_time_counts_where_a_block_fails(clock: Any) -> None:
    timings = Timings()

    def fails() -> None:
        with timings.measure("encode"):
            with timings.measure("load"):
                clock.passes(4)
            clock.passes(2)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fails()
    assert (timings.load, timings.encode) == (4, 2)
    with timings.measure("decode"):
        clock.passes(1)
    assert timings.decode == 1


def test_a_later_pass_counts_as_well() -> None:
    timings = Timings(load=1, encode=2, steps=[1.0], decode=4, total=10)
    timings.add(Timings(load=10, encode=20, steps=[2.0, 3.0], decode=40, total=100))
    assert timings == Timings(load=11, encode=22, steps=[1.0, 2.0, 3.0], decode=44, total=110)


def test_images_come_with_their_seeds() -> None:
    output = PipelineOutput()
    output.add("a", 1, None)
    output.add(None, 2, None)
    assert (output.images, output.seeds, output.variation_seeds) == (["a", None], [1, 2], [])
    output.add("b", 2, Variation(9, 0.5))
    assert output.variation_seeds == [9]


def test_a_later_pass_takes_an_image_s_place() -> None:
    output = PipelineOutput(images=["a", "b"], seeds=[1, 2], verdicts=[Verdict(), Verdict()])
    later = PipelineOutput(images=[None], seeds=[2], verdicts=[UNSAFE])
    output.replace(1, later)
    assert output.images == ["a", None]
    assert output.seeds == [1, 2]
    assert output.nsfw_content_detected == [False, True]
    output.replace(0, PipelineOutput(stopped=True))
    assert output.images == ["a", None]  # of a pass that was ended there is nothing
    assert output.stopped


def test_without_a_checker_nothing_is_said_of_images() -> None:
    assert PipelineOutput(images=["a"]).nsfw_content_detected is None
