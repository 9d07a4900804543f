"""A job in a fresh process: its result, its words when it fails, its memory, its end."""

import os
import time
import venv
from pathlib import Path

import pytest

from pleinair.bench import environments
from pleinair.bench.process import run_fresh
from pleinair.runtime.errors import EngineError

JOBS = """
import os, sys, time
from pleinair.runtime.errors import SettingError

def paint(job, watch):
    print("a library prints")
    os.write(1, b"and so does C++\\n")
    watch.advance(0.5)
    return {"twice": job["number"] * 2, "seconds": watch.seconds()}

def grow(job, watch):
    return {"length": len(bytearray(job["bytes"]))}

def refuse(job, watch):
    raise SettingError("size is 3; give a multiple of 8")

def crash(job, watch):
    print("a warning", file=sys.stderr)
    raise ZeroDivisionError("no colours left")

def packages(job, watch):
    import pleinair.bench.worker, pleinair.runtime.errors
    try:
        import fixture  # a file of bench/, which must not be importable by its bare name
    except ImportError:
        return {"path": sys.path, "pleinair": list(sys.modules["pleinair"].__path__)}

def die(job, watch):
    os._exit(7)

def linger(job, watch):
    watch.advance(0.1)
    time.sleep(60)
    return {}
"""


@pytest.fixture(autouse=True)
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench_jobs.py").write_text(JOBS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_result_and_progress_come_through_whatever_libraries_print() -> None:
    shares: list[float] = []
    begun = time.perf_counter()
    result = run_fresh("bench_jobs:paint", {"number": 21}, shares.append)
    elapsed = time.perf_counter() - begun
    assert result["twice"] == 42
    assert shares == [0.5]
    # Python's own start is counted, and the two processes read the same clock.
    assert 0.01 < result["seconds"] < result["process"] <= elapsed


def test_peak_memory_is_the_jobs_own() -> None:
    ballast = bytearray(600_000_000)  # the parent's, which must not be counted
    peak = run_fresh("bench_jobs:grow", {"bytes": 200_000_000})["peak_memory"]
    assert len(ballast) > peak
    assert 200_000_000 < peak < 400_000_000


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("refuse", "size is 3; give a multiple of 8"),
        ("crash", "ZeroDivisionError: no colours left"),
        ("die", "exit code 7"),
    ],
)
def test_a_failure_speaks_in_the_jobs_own_words(job: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        run_fresh(f"bench_jobs:{job}", {})


def test_another_interpreter_is_lent_our_rooms_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment without pleinair: ours without its site-packages, and no PYTHONPATH."""
    folder = tmp_path / "bare"
    venv.create(folder, symlinks=os.name != "nt")
    python = str(environments.python_of(folder))
    site = next(folder.rglob("site-packages"))
    (tmp_path / "bench_jobs.py").rename(site / "bench_jobs.py")
    found = run_fresh("bench_jobs:packages", {}, python=python)
    assert found["pleinair"] == []
    assert str(tmp_path) not in found["path"]  # that was PYTHONPATH, which is ours
    assert found["process"] > 0
    with pytest.raises(EngineError, match="size is 3"):
        run_fresh("bench_jobs:refuse", {}, python=python)


def test_interrupted_it_ends_the_process_at_once() -> None:
    def interrupt(share: float) -> None:
        raise KeyboardInterrupt

    begun = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):  # it waits for the process, which would sleep a minute
        run_fresh("bench_jobs:linger", {}, interrupt)
    assert time.perf_counter() - begun < 30
