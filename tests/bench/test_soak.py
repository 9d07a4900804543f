"""A leak is seen, its absence too, and threads really paint at once."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pleinair.bench import memory, soak

pytestmark = pytest.mark.skipif(memory.resident() is None, reason="needs psutil here")


PROGRAM = """
import json
from pleinair.bench import soak

kept = []
paint = {{"leak": kept.append, "sound": id}}["{kind}"]
readings = list(soak.soak(lambda seed: paint(bytearray(b"x" * 2_000_000)), 30, 10, 1))
print(json.dumps([[one["pictures"] for one in readings], soak.growth(readings)]))
"""


@pytest.mark.parametrize(("kind", "least", "most"), [("leak", 36e6, 50e6), ("sound", -10e6, 10e6)])
def test_a_leak_is_seen(kind: str, least: float, most: float) -> None:
    """In a process of its own: other tests' threads take memory, too."""
    program = [sys.executable, "-c", PROGRAM.format(kind=kind)]
    said = subprocess.run(program, timeout=60, capture_output=True, check=True, text=True)
    pictures, growth = json.loads(said.stdout)
    assert pictures == [10, 20, 30]
    assert least < growth < most


def test_every_picture_once_and_several_at_a_time() -> None:
    both_inside, seeds = threading.Barrier(2, timeout=20), []

    def paint(seed: int) -> None:
        seeds.append(seed)
        both_inside.wait()

    readings = list(soak.soak(paint, pictures=10, every=4, workers=2))
    assert sorted(seeds) == list(range(10))
    assert [reading["pictures"] for reading in readings] == [4, 8, 10]


def test_a_failing_picture_is_not_swallowed() -> None:
    def paint(seed: int) -> None:
        raise RuntimeError(f"picture {seed}")

    with pytest.raises(RuntimeError, match="picture 0"):
        list(soak.soak(paint, pictures=4, every=2, workers=2))


def test_command(exported_openvino: Path, tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    small = ["--pictures", "6", "--every", "2", "--workers", "2", "--size", "64", "--steps", "2"]
    command = [sys.executable, "-m", "pleinair.bench", "soak", str(exported_openvino), *small]
    # Threads that wait for each other would wait for ever: a process of its own can be given up.
    done = subprocess.run([*command, "--json", str(file)], timeout=120, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    measured = json.loads(file.read_text(encoding="utf-8"))
    assert [reading["pictures"] for reading in measured["readings"]] == [2, 4, 6]
