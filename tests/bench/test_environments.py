"""Environments for the other systems: complete data, made whole or not at all, kept as they are."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pleinair.bench import environments, systems
from pleinair.bench.__main__ import main
from pleinair.bench.environments import Environment
from pleinair.runtime.errors import EngineError

PLAIN = Environment("plain", ["diffusers"], ["one==1.0", "two==2.0"], "a compiler")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """No registry is asked: venvs come without pip, and its calls are noted."""
    calls: list[list[str]] = []
    create = environments.venv.create

    def bare(folder: Path, with_pip: bool, symlinks: bool) -> None:
        create(folder, with_pip=False, symlinks=symlinks)

    def run(command: list[str], **_: Any) -> Any:
        calls.append(command)
        read = Path(command[-1]).read_text(encoding="utf-8")
        assert "==" in read
        return subprocess.CompletedProcess(command, 0, stderr="")

    monkeypatch.setattr(environments.venv, "create", bare)
    monkeypatch.setattr(environments.subprocess, "run", run)
    return calls


def test_every_other_system_has_an_environment() -> None:
    held = [system for one in environments.known().values() for system in one.systems]
    assert sorted(held) == [name for name in systems.names() if not name.startswith("pleinair")]
    for one in environments.known().values():
        assert all("==" in requirement for requirement in one.requirements)


def test_it_is_made_once_and_its_python_works(tmp_path: Path, pip: list[list[str]]) -> None:
    python = environments.make(PLAIN, tmp_path)
    assert len(pip) == 1
    real = subprocess.Popen([str(python), "-c", "import sys; print(sys.prefix)"], stdout=-1)
    assert Path(real.communicate()[0].decode().strip()) == tmp_path / "plain"
    assert environments.make(PLAIN, tmp_path) == python
    assert len(pip) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain"]


def test_another_ones_is_left_alone(tmp_path: Path, pip: list[list[str]]) -> None:
    environments.make(PLAIN, tmp_path)
    other = Environment("plain", ["diffusers"], ["one==1.1"])
    with pytest.raises(EngineError, match="other requirements; remove it"):
        environments.make(other, tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(EngineError, match="remove it"):
        environments.make(Environment("mine", [], []), tmp_path)


def test_where_pip_fails_nothing_is_left(
    tmp_path: Path, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(command: list[str], **_: Any) -> Any:
        words = "warning\nERROR: No matching distribution found for one==1.0\n\n"
        return subprocess.CompletedProcess(command, 1, stderr=words)

    monkeypatch.setattr(environments.subprocess, "run", fail)
    with pytest.raises(EngineError, match=r"needs a compiler\): ERROR: No matching distribution"):
        environments.make(PLAIN, tmp_path)
    monkeypatch.setattr(environments.subprocess, "run", lambda *_, **__: _interrupt())
    with pytest.raises(KeyboardInterrupt):
        environments.make(PLAIN, tmp_path)
    assert list(tmp_path.iterdir()) == []


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_the_command_goes_on_after_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(environment: Environment, folder: Path) -> Path:
        if environment.name == "optimum":
            raise EngineError("pip failed")
        return folder / environment.name

    monkeypatch.setattr(environments, "make", make)
    assert main(["environments", "--folder", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == len(environments.known()) - 1
    assert "not made: optimum: pip failed" in shown.err
    assert main(["environments", "moon"]) == 2
    assert "no environment 'moon'" in capsys.readouterr().err


def test_named_ones_win_over_made_ones(tmp_path: Path, pip: list[list[str]]) -> None:
    known = environments.known()
    made = environments.make(known["optimum"], tmp_path)
    found = environments.interpreters(tmp_path, [])
    assert found == {"optimum_intel": str(made), "fastsdcpu": str(made)}
    own = tmp_path / "python"
    own.touch()
    found = environments.interpreters(tmp_path, [f"optimum={own}"])
    assert found["optimum_intel"] == str(own)
