"""docs/coverage.md names tests that exist, and that use each flag under its own name."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from pleinair.runtime.cli.arguments import parser

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?P<what>.+?) \| .+ \| `(?P<file>tests/\S+?\.py)::(?P<test>\w+)` \|$")


def sections() -> dict[str, list[re.Match[str]]]:
    """Heading -> its rows."""
    text = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    found = {}
    for section in text.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        table = [line for line in body.splitlines() if line.startswith("| ")][1:]
        rows = [ROW.match(line) for line in table]
        assert all(rows), f"{heading}: {table[rows.index(None)] if None in rows else ''}"
        found[heading] = rows
    return found


@cache
def functions(file: str) -> dict[str, str]:
    """Test -> its source, with its decorators: parameters are used too."""
    source = (ROOT / file).read_text(encoding="utf-8")
    return {
        node.name: "\n".join(ast.unparse(part) for part in (*node.decorator_list, *node.body))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }


ROWS = [row for rows in sections().values() for row in rows]
FLAGS = [row for row in ROWS if re.fullmatch(r"`--[\w-]+`", row["what"])]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["what"])
def test_the_named_test_exists(row: re.Match[str]) -> None:
    assert row["test"] in functions(row["file"])


@pytest.mark.parametrize("row", FLAGS, ids=lambda row: row["what"])
def test_the_test_of_a_flag_uses_it_under_its_own_name(row: re.Match[str]) -> None:
    flag = row["what"].strip("`")
    assert re.search(rf"['\"]{flag}['\"]", functions(row["file"])[row["test"]])
    assert re.search(rf"(?<![\w-]){flag}(?![\w-])", parser().format_help())


def test_every_flag_of_the_systems_has_its_row() -> None:
    txt2img = "prompt from-file ckpt config outdir skip_grid n_rows skip_save ddim_steps plms "
    txt2img += "dpm_solver ddim_eta n_samples n_iter H W C f scale seed fixed_code precision "
    txt2img += "init-img strength"
    demo = "model device seed beta-start beta-end beta-schedule num-inference-steps guidance-scale "
    demo += "eta tokenizer prompt params-from init-image strength mask output"
    first, second, *_ = sections().values()
    for flags, rows in ((txt2img, first), (demo, second)):
        named = {row["what"] for row in rows}
        assert {f"`--{flag}`" for flag in flags.split()} <= named
