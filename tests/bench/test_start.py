"""The start is measured from outside the process, and a cache is filled before it is timed."""

import json
from pathlib import Path
from typing import Any

from pleinair.bench.__main__ import main
from pleinair.runtime.model import catalog


def test_command(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "start.json"
    command = ["start", str(catalog.bundled()), "--size", "64", "--rounds", "1"]
    assert main([*command, "--json", str(file)]) == 0
    measured = json.loads(file.read_text(encoding="utf-8"))
    names = [record["name"] for record in measured["records"]]
    assert names == ["filling the cache", "no cache", "cache"]
    for record in measured["records"]:
        assert 0 < record["open"] < record["step"] < record["process"]
    filling, without, kept = (record["processor"] for record in measured["records"])
    assert kept < without < filling * 2
    assert 0 < measured["cache"] < 10_000_000
    assert "no cache's figure divided by the other's" in capsys.readouterr().out
    assert main([*command, "--json", str(file)]) == 2
