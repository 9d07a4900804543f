"""The command as a process of its own: streams that are closed or full, and signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pleinair.runtime.cli import main
from pleinair.runtime.speed.tuning import settings_folder

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "demo.py"
posix = pytest.mark.skipif(os.name == "nt", reason="signals and /dev/full are POSIX's")

# Computes in C for minutes, as a step of denoising does; Python acts on no signal meanwhile.
IN_C = """
import hashlib, sys
from pleinair.runtime.exits import exit_code
def run():
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1_000_000_000)
sys.exit(exit_code(run))
"""
IN_PYTHON = IN_C.replace("hashlib.pbkdf2_hmac(", "__import__('time').sleep(60); (")


def heeding_signals() -> None:
    """A shell's background jobs, and these tests may be in one, ignore Ctrl-C by inheritance."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def begun(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding_signals,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@posix
def test_a_second_ctrl_c_ends_at_once() -> None:
    process = begun(IN_C)
    time.sleep(0.3)  # until it is in C, where Python's handler waits
    process.send_signal(signal.SIGINT)
    time.sleep(0.6)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_in_one_line(number: signal.Signals, code: int) -> None:
    process = begun(IN_PYTHON)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "stopped\n")


def run(words: Sequence[str], **about: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, str(DEMO), *words]
    return subprocess.run(command, stderr=subprocess.PIPE, timeout=120, **about)


@posix
def test_a_full_output_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = run(["models"], stdout=full)
    assert done.returncode == 2
    assert done.stderr == b"error: the output: No space left on device\n"


@posix
def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, str(DEMO), "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=120) == 141


@posix
def test_streams_that_were_closed_by_the_caller(tmp_path: Path) -> None:
    """The next file opened would get the number of stderr, and what libraries print there."""
    words = f"{sys.executable} {DEMO} --model nowhere"
    done = subprocess.run(["sh", "-c", f"{words} <&- >&- 2>&-"], timeout=120, cwd=tmp_path)
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


def test_prompts_from_the_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line is read as a file's is: the second has an option that there is not."""
    import io

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"boat --stps 3\n")))
    assert main(["--from-file", "-"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: standard input: no prompt in it")
    assert "did you mean --steps?" in line


def test_the_package_is_what_pyproject_says(tmp_path: Path) -> None:
    """`pleinair.__version__` and `python -m pleinair`, with the rooms where they are mapped to."""
    package = tmp_path / "pleinair"
    package.mkdir()
    for file in (ROOT / "package").glob("*.py"):
        (package / file.name).write_bytes(file.read_bytes())
    try:
        (package / "runtime").symlink_to(ROOT / "runtime", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pleinair", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    command = [sys.executable, "-c", "import pleinair; print('pleinair', pleinair.__version__)"]
    same = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout == same.stdout != ""


def test_the_users_settings_are_not_those_of_whoever_tests() -> None:
    if sys.platform.startswith("linux"):
        assert settings_folder().parent == Path(os.environ["XDG_CONFIG_HOME"])
