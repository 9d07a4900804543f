"""Batches on a Ray cluster of two nodes on this machine, a painter a node.

They take a minute: pytest -m cluster -n 0 tests/serve
"""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters import STEPS, Nodes, two_nodes, until
from pleinair.runtime.cli import main
from pleinair.serve.settings import Settings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:::ray"),  # what Ray says of its own fields
]

THREADS = ("--threads", "1")


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with two_nodes() as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    line = {"prompt": "a red apple", "num_inference_steps": STEPS}
    path.write_text("\n".join([json.dumps(line)] * 40), encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_batch_outlives_one_of_two_nodes(nodes: Nodes, file: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["batch", str(file), "--outdir", str(one), *THREADS]) == 0

    def kill_in_the_middle() -> None:
        until(lambda: two.is_dir() and len(list(two.glob("*.png"))) >= 8)
        nodes.kill_second()

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    assert main(["batch", str(file), "--outdir", str(two), "--ray", *THREADS]) == 0
    killer.join()
    assert len(contents(two)) == 40
    assert contents(two) == contents(one)


def test_a_batch_goes_on_where_it_was_interrupted(
    nodes: Nodes, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pleinair.serve import batch

    one, two = tmp_path / "one", tmp_path / "two"
    command = ["batch", str(file), "--outdir", str(two), "--ray", *THREADS]
    write, written = batch.write, []

    def stopped(*args: Any) -> Path:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(write(*args))
        return written[-1]

    with monkeypatch.context() as patch:
        patch.setattr(batch, "write", stopped)
        assert main(command) == 130
    first = contents(two)
    assert len(first) == 5
    assert main(command) == 0
    assert main(["batch", str(file), "--outdir", str(one), *THREADS]) == 0
    assert contents(two) == contents(one)
    assert all(contents(two)[name] == data for name, data in first.items())


def test_a_line_that_kills_its_painters_is_left_out(
    nodes: Nodes, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    from pleinair.serve.cluster import pool

    tries = ray.remote(num_cpus=0)(pool.Tries).remote()
    for _ in range(3):
        ray.get(tries.begun.remote("00001.png"))
    settings = Settings(threads=1)
    made = pool.Painter(settings, tries)({"line": _pickled(file)})
    assert made["error"] == "3 painters died over it"
    assert made["file"] == "00001.png"


def _pickled(file: Path) -> bytes:
    import pickle

    from pleinair.serve import lines

    return pickle.dumps(lines.read(file, 0).lines[0])
