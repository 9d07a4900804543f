"""Thousands of command lines that nobody would type: planned, never painted.

Nothing but exit codes 0 and 2, one line for a mistake, and no traceback.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pleinair.runtime.cli import main, paint
from pleinair.runtime.cli.arguments import parser

SECONDS = 6.0
SEED = 20
POCKET = Path(__file__).parents[3] / "models" / "pocket"
# They print and end, or write where they are told to.
LEFT_OUT = {"cache_dir", "outdir", "preview", "debug"}
VALUES = [
    *("0", "1", "2", "7", "8", "64", "63", "-1", "-8", "0.5", "1.5", "1e9", "nan", "inf", "-inf"),
    *("", " ", "x", "a cat", "-", "--", "é", "蓝色", "\x1b[2J", "a\nb", "\u202e", "\udcff", "\0"),
    *("1" * 400, "9" * 5000, "x" * 3000, "{seed}", "%s", "[a:b:0.5]", "(((", "<lora:x:1>", "__a__"),
    *("euler", "exact", "fast", "auto", "tiny", "on", "off", "webui", "plain", "stop", "alpha"),
    *("nowhere.png", "photo.png", "prompts.txt", ".", "..", "/dev/null", "canny:photo.png"),
    *("steps=1,2", "seed=-1", "size=64x64", "size=0x0", "scale=nan", "prompt=a|b", "=", "steps="),
    *("1/2", "64x64", "(64, 64)", "2GB", "0GB", "True", "None", "１２", "1_000", "0x10"),
]
LINES = ["boat --steps 2", "tree --W 63", "", "# no", '"', "boat --seed -1 --n-samples 2", "\x00"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (72, 64), (10, 20, 30)).save("photo.png")
    Path("prompts.txt").write_text("\n".join(LINES), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", open("prompts.txt", encoding="utf-8"))  # noqa: SIM115
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def planned(pipelines: Any, options: Any, pictures: Any, preview: Any) -> Iterator[Any]:
        for _ in pictures:
            yield paint.Painted(Image.new("RGB", (8, 8)), {})

    monkeypatch.setattr(paint, "_paint_all", planned)


def command_lines(chance: random.Random) -> Iterator[list[str]]:
    actions = [one for one in parser().options() if one.dest not in LEFT_OUT]
    while True:
        words = ["--model", str(POCKET)] if chance.random() < 0.9 else []
        for action in chance.sample(actions, chance.randint(0, 4)):
            flag = chance.choice(action.option_strings)
            if action.nargs == 0:
                words.append(flag)
            elif chance.random() < 0.2:
                words.append(f"{flag}={chance.choice(VALUES)}")
            else:
                words += [flag, chance.choice(VALUES)]
        if chance.random() < 0.2:
            words.insert(chance.randint(0, len(words)), chance.choice(VALUES))
        if chance.random() < 0.1 and words:
            words[-1] = words[-1][: chance.randint(0, 6)]
        yield words


def test_any_command_line_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    ends = time.monotonic() + SECONDS
    codes: dict[int, int] = {}
    for words in command_lines(random.Random(SEED)):
        if time.monotonic() > ends or sum(codes.values()) == 2000:
            break
        try:
            code = main(words)
        except SystemExit as exit:  # --help
            code = int(exit.code or 0)
        err = capsys.readouterr().err
        errors = [line for line in err.split("\n") if line.startswith("error: ")]
        assert code in (0, 2), (words, err)
        assert "Traceback" not in err, (words, err)
        assert "fault of Pleinair's" not in err, (words, err)
        assert len(errors) <= 1, (words, err)
        assert max(map(len, errors), default=0) < 2500, words
        assert not set("\x1b\x00\u202e") & set(err), words
        codes[code] = codes.get(code, 0) + 1
    assert codes[0] > 2
    assert codes[2] > 10
