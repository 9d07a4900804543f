"""A job over a file of prompts, killed at any moment, goes on: no picture twice, none lost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pleinair.runtime.cli import main
from pleinair.runtime.cli.journal import Journal
from pleinair.runtime.errors import SettingError

pytestmark = pytest.mark.usefixtures("compiled_once")

DEMO = Path(__file__).parents[2] / "demo.py"
INPUTS = {"lines": ["boat"], "model": "tiny"}

# A process that kills itself at the n-th time that something is about to happen.
KILLED = """
import os, signal, sys
from pathlib import Path
from pleinair.runtime.cli import main, progress

moment, times = sys.argv[1], int(sys.argv[2])

def killed(*_):
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

def at(place, name, do, counts=lambda *_: True):
    real = getattr(place, name)
    def wrapped(*arguments):
        global times
        times -= counts(*arguments)
        if times == 0:
            do(real, *arguments)
            killed()
        return real(*arguments)
    setattr(place, name, wrapped)

def journals(handle):
    found = Path(sys.argv[-1]).glob("*.jsonl")
    return [file for file in found if os.path.samestat(file.stat(), os.fstat(handle))]

def half(real, handle):
    (file,) = journals(handle)
    content = file.read_bytes()
    last = content[:-1].rfind(b"\\n") + 1
    os.ftruncate(handle, (last + len(content)) // 2)

nothing = lambda *_: None
everything = lambda real, *arguments: real(*arguments)
if moment == "line half written":
    at(os, "fsync", half, lambda handle: len(journals(handle)))
elif moment == "picture written, not synced":
    at(os, "fsync", nothing)
elif moment == "picture without a name":
    at(os, "link", nothing)
elif moment == "picture just named":
    at(os, "link", everything)
elif moment == "painting":
    at(progress.StageBars, "__call__", nothing)
sys.exit(main(sys.argv[3:]))
"""


def pictures(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the journals."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".jsonl"
    }


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported_openvino: Path) -> list[str]:
    """A command that paints four pictures and their sheet; its --outdir is still to be given."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("boat\napple\n")
    flags = ["--model", str(exported_openvino), "--from-file", "prompts.txt", "--n_samples", "2"]
    return [*flags, "--steps", "2", "--seed", "7", "--outdir"]


def test_killed_at_many_moments_it_ends_as_if_undisturbed(job: list[str], capsys) -> None:
    assert main([*job, "calm"]) == 0
    calm = pictures(Path("calm"))
    assert sorted(calm) == ["grid-0000.png", *(f"samples/0000{i}.png" for i in range(4))]
    capsys.readouterr()
    moments = [
        ("line half written", 1),
        ("picture written, not synced", 2),  # the first one is the journal's
        ("picture without a name", 1),
        ("picture just named", 1),
        ("painting", 6),
        ("line half written", 2),
    ]
    for moment, times in moments:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, moment, str(times), *job, "rough"], capture_output=True
        )
        assert done.returncode not in (0, 1, 2), (moment, done.stderr)
    _kill_after_the_next_picture([*job, "rough"])
    assert main([*job, "rough"]) == 0
    assert pictures(Path("rough")) == calm
    named = capsys.readouterr().out.splitlines()
    assert sorted(Path(name).relative_to("rough").as_posix() for name in named) == sorted(calm)


def _kill_after_the_next_picture(command: list[str]) -> None:
    folder = Path(command[-1])
    before = len(pictures(folder))
    process = subprocess.Popen(
        [sys.executable, str(DEMO), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list(folder.rglob("0*.png"))) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()


def test_a_finished_job_is_not_done_again(job: list[str], capsys) -> None:
    assert main([*job, "out", "--skip_grid"]) == 0
    painted = pictures(Path("out"))
    named = capsys.readouterr().out
    assert main([*job, "out", "--skip_grid"]) == 0
    again = capsys.readouterr()
    assert pictures(Path("out")) == painted
    assert again.out == named
    assert "painted before" in again.err
    # A picture that was thrown away is painted once more, the same.
    gone = Path("out/samples/00001.png")
    gone.unlink()
    assert main([*job, "out", "--skip_grid"]) == 0
    after = pictures(Path("out"))
    assert after["samples/00004.png"] == painted["samples/00001.png"]
    # Another command is another job, in the same folder.
    assert main([*job, "out", "--skip_grid", "--scale", "5"]) == 0
    assert len(pictures(Path("out"))) == 8
    assert len(list(Path("out").glob("journal-*.jsonl"))) == 2


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path, INPUTS, seed=1) as journal:
        yield journal


def test_lines_are_json_and_only_added(journal: Journal) -> None:
    journal.tell("0", journal.folder / "samples" / "00000.png", "1f")
    assert [json.loads(line) for line in journal.path.read_text().splitlines()] == [
        {"begun": journal.digest, "seed": 1},
        {"item": "0", "file": "samples/00000.png", "sha256": "1f"},
    ]


def test_a_job_that_goes_on_keeps_its_seed(tmp_path: Path) -> None:
    for seed in (1, 2):
        with Journal(tmp_path, INPUTS, seed) as journal:
            assert journal.seed == 1
    with Journal(tmp_path, {**INPUTS, "lines": ["apple"]}, seed=2) as other:
        assert other.seed == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_an_item_is_done_if_its_file_is_the_one_that_was_told_of(journal: Journal) -> None:
    path = journal.folder / "a.png"
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc"
    journal.tell("0", path, digest)
    assert journal.done("0") is None  # killed before it had its name
    path.write_text("another process's")
    assert journal.done("0") is None
    path.write_text("abc")
    assert journal.done("0") == path
    assert journal.done("1") is None


@pytest.mark.parametrize(
    "rest", [b'{"item": "1", "fi', b"\0\0\0\0", b"[" * 9999, b"5\n", b'{"item": 1}\n', b"\xff\n"]
)
def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "a.png").write_text("abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with Journal(tmp_path, INPUTS, seed=1) as journal:
        journal.tell("0", tmp_path / "a.png", digest)
    with journal.path.open("ab") as file:
        file.write(rest)
    with Journal(tmp_path, INPUTS, seed=2) as journal:
        assert (journal.seed, journal.done("0")) == (1, tmp_path / "a.png")
        journal.tell("2", tmp_path / "a.png", digest)
    with Journal(tmp_path, INPUTS, seed=2) as journal:
        assert journal.done("2") == tmp_path / "a.png"


def test_two_processes_do_not_share_a_job(journal: Journal) -> None:
    code = "import sys; from pathlib import Path; from pleinair.runtime.cli.journal import Journal"
    code += f"; Journal(Path(sys.argv[1]), {INPUTS!r}, 1)"
    command = [sys.executable, "-c", code, str(journal.folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "another process is painting this very job" in done.stderr


def test_unfinished_files_of_the_job_are_swept(tmp_path: Path) -> None:
    with Journal(tmp_path, INPUTS, seed=1) as journal:
        owner = journal.owner
    (tmp_path / "samples").mkdir()
    for name in (f".00000.png.{owner}-1f.partial", ".00000.png.other-1f.partial"):
        (tmp_path / "samples" / name).touch()
    with Journal(tmp_path, INPUTS, seed=1):
        pass
    assert [file.name for file in (tmp_path / "samples").iterdir()] == [
        ".00000.png.other-1f.partial"
    ]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingError, match="cannot be written"):
        Journal(tmp_path, INPUTS, seed=1)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="cannot be written"):
        Journal(tmp_path / "file", INPUTS, seed=1)
