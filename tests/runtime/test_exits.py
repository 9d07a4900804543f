"""How commands end: an exit code, and one line where there is something to say."""

import errno
import io
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from pleinair.runtime import exits
from pleinair.runtime.errors import SettingError
from pleinair.runtime.exits import exit_code, harmless, tell


def raising(error: BaseException):
    def run() -> None:
        raise error

    return run


FULL = OSError(errno.ENOSPC, "No space left on device", "a.png")


@pytest.mark.parametrize(
    ("run", "code", "says"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (
            raising(SettingError("steps is 0; give 1 or more")),
            2,
            "here: steps is 0; give 1 or more",
        ),
        (raising(KeyboardInterrupt()), 130, "here: stopped"),
        (raising(FULL), 2, "here: a.png: No space left on device"),
        (
            raising(PermissionError(errno.EACCES, "Permission denied", "x")),
            2,
            "here: x: Permission",
        ),
        (raising(OSError(errno.EBADF, "Bad file", 3)), 2, "here: 3: Bad file"),
        (raising(OSError(errno.EBADF, "Bad file", b"\xe8")), 2, "here: \\udce8: Bad file"),
        (raising(OSError(errno.ENAMETOOLONG, "Too long", "x" * 999)), 2, f"here: {'x' * 225}…x"),
        (raising(OSError("odd")), 2, "here: the output: odd"),
        (raising(MemoryError()), 2, "here: not enough memory"),
        (raising(BrokenPipeError()), 141, ""),
        (raising(SettingError("a\nb\x1b[2Jc\u202ed")), 2, "here: a b\\x1b[2Jc\\u202ed"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_every_end(run, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(run, "here", "here: stopped") == code
    lines = capsys.readouterr().err.splitlines()
    assert [line[: len(says)] for line in lines] == [says] * bool(says)


def test_a_fault_of_ours_is_one_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_code(raising(TypeError("no \ud800 such\nthing"))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    (file,) = tmp_path.iterdir()
    assert "fault of Pleinair's" in line
    assert str(file) in line
    assert "Traceback" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_debugging_shows_the_traceback(
    way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if way == "environment":
        monkeypatch.setenv("PLEINAIR_DEBUG", "1")
    assert exit_code(raising(SettingError("odd")), debug=way == "argument") == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "error: odd"


def test_names_of_all_scripts_are_shown_as_they_are() -> None:
    for name in ("蓝色 苹果", "میخواهم\u200cرا", "👩\u200d🚀", "Łódź"):
        assert harmless(name) == name


@pytest.mark.parametrize(
    ("times", "ends"), [((0, 0.1), False), ((0, 0.1, 0.5), True), ((0,), False), ((0, 9), True)]
)
def test_the_second_ctrl_c_is_not_the_first_again(
    times: tuple[float, ...], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrappers send one to the process and to its group."""
    hearing, told = socket.socketpair()
    told.sendall(bytes([signal.SIGTERM, *[signal.SIGINT] * len(times)]))
    told.close()
    clock, ended = iter(times), []
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("os._exit", ended.append)
    exits._end_at_the_second(hearing)
    monkeypatch.undo()
    hearing.close()
    assert ended == [130] * ends


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    seen = []

    def run() -> int:
        tell("nobody hears")
        print("nobody reads")
        seen.append(sys.stdin.buffer.read())
        return 0

    assert exit_code(run) == 0
    assert seen == [b""]
    assert sys.stdout is None


def test_an_output_that_is_full(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert exit_code(lambda: 0) == 2
    assert capsys.readouterr().err == "error: the output: No space left on device\n"


def test_text_that_the_output_has_no_letters_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Western console; bytes of a file name come out as they are, as `ls` writes to a pipe."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252", newline="\n"))
    assert exit_code(lambda: print("Łód", os.fsdecode(b"\xe8") if os.name != "nt" else "è")) == 0
    assert raw.getvalue() == b"\\u0141\xf3d \xe8\n"
