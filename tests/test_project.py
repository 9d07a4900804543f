"""What holds for the whole tree: packages are complete, and rooms import what they may."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
# What bench makes for itself, other systems' environments among it; git ignores it.
WORK = ROOT / "bench" / "work"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sources(room: str) -> list[Path]:
    files = [file for file in (ROOT / room).rglob("*.py") if not file.is_relative_to(WORK)]
    assert len(files) > 10, room
    return files


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""


def test_every_package_is_listed() -> None:
    found = {
        "pleinair." + ".".join(init.parent.relative_to(ROOT).parts)
        for room in ("runtime", "export", "bench", "serve")
        for init in (ROOT / room).rglob("__init__.py")
        if not init.is_relative_to(WORK)
    }
    assert found | {"pleinair", "pleinair.models"} == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("room", ["runtime", "bench", "serve"])
def test_the_runtime_bench_and_serve_start_without_torch(room: str) -> None:
    """bench may import torch inside a function; the runtime nowhere."""
    heavy = {"torch", "transformers", "diffusers", "optimum", "nncf", "scipy"}
    for file in sources(room):
        if room == "runtime":
            assert not heavy & {name.partition(".")[0] for name in imports(file)}, file
        top = ast.parse(file.read_text(encoding="utf-8")).body
        for node in top:
            if isinstance(node, ast.Import):
                assert not heavy & {alias.name.partition(".")[0] for alias in node.names}, file


def test_the_runtime_imports_no_other_room() -> None:
    for file in sources("runtime"):
        assert not [name for name in imports(file) if name.startswith("pleinair")], file


def test_no_test_file_imports_another() -> None:
    """What several of them use stands in a module beside conftest.py, or in a conftest.py."""
    tests = set((ROOT / "tests").rglob("test_*.py"))
    names = {file.stem for file in tests}
    assert len(names) == len(tests) > 100
    for file in sources("tests"):
        assert not [name for name in imports(file) if names & {*name.split(".")}], file


def test_base_install_is_light() -> None:
    names = {requirement.partition(">")[0] for requirement in PROJECT["project"]["dependencies"]}
    assert names == {"msgspec", "numpy", "openvino", "Pillow", "rich", "tokenizers", "tomli"}
