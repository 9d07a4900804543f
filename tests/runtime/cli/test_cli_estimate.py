"""What is said of a long run before it is painted, and what would be quicker."""

from pathlib import Path
from typing import Any

import pytest

from fakes import model_folder, opened
from pleinair.runtime.cli.estimate import Estimate, Speeds


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return opened(model_folder(tmp_path_factory.mktemp("estimate") / "tree"))


def steps(estimate: Estimate, clock: Clock, seconds: float, total: int) -> None:
    for done in range(total + 1):
        estimate("denoise", done, total)
        clock.now += seconds


@pytest.mark.parametrize(
    ("seconds", "pictures", "watched", "says"),
    [
        (0.5, 1, True, ""),
        (2.0, 1, True, "about 60 seconds ahead"),
        (2.0, 1, False, "about 60 seconds ahead"),
        (20.0, 1, False, "about 10 minutes ahead"),
        (20.0, 12, False, "about 2.0 hours ahead for 12 pictures"),
        (20.0, 1, True, "about 10 minutes ahead; quicker: --profile balanced after pleinair "),
    ],
)
def test_the_first_steps_tell(
    pipe: Any,
    seconds: float,
    pictures: int,
    watched: bool,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock, passed_on = Clock(), []
    estimate = Estimate(
        pictures, lambda *now: passed_on.append(now), Speeds(None), watched, clock=clock
    )
    estimate.begins(pipe, pipe.plan("boat", num_inference_steps=30, seed=1, width=96))
    steps(estimate, clock, seconds, 30)
    assert len(passed_on) == 31
    lines = capsys.readouterr().err.splitlines()
    assert [line[: len(says)] for line in lines] == [says] * bool(says)
    if says.count("quicker"):
        assert lines[0].endswith("--steps 20, a smaller --W and --H")


def test_it_is_said_before_a_run_whose_kind_was_painted(
    pipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = pipe.plan("boat", num_inference_steps=30, seed=1)
    first = Estimate(1, lambda *now: None, Speeds(tmp_path / "a" / "speeds.json"), False)
    first.begins(pipe, plan)
    first.painted([10.0] * 30)
    second = Estimate(2, lambda *now: None, Speeds(tmp_path / "a" / "speeds.json"), False)
    second.begins(pipe, plan)
    assert capsys.readouterr().err == "about 10 minutes ahead for 2 pictures\n"
    other = Estimate(2, lambda *now: None, Speeds(tmp_path / "a" / "speeds.json"), False)
    other.begins(pipe, pipe.plan("boat", num_inference_steps=30, seed=1, width=96))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", ["", "[]", '{"a": "x"}', "{" * 5000, '{"a": -1.0}', "\0"])
def test_a_file_that_is_damaged_is_measured_anew(tmp_path: Path, content: str) -> None:
    file = tmp_path / "speeds.json"
    file.write_text(content)
    speeds = Speeds(file)
    assert speeds.known("a") is None
    speeds.remember("a", 2.5)
    assert speeds.known("a") == 2.5


def test_what_is_remembered_stays_small(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path / "speeds.json")
    for i in range(210):
        speeds.remember(str(i), 1.0)
    assert speeds.known("9") is None
    assert speeds.known("209") == 1.0
