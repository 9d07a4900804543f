"""Files that appear whole or not at all, and JSON files that are wrong."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.files import conform, parse_json, read_json, replacing, short_digest


def test_a_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_text("old")
    with replacing(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_text("old")

    def interrupted() -> None:
        with replacing(file) as part:
            part.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    with replacing(file) as one, replacing(file) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert file.read_text() == "one"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing; copy it there"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"a": NaN}', "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ("[" * 100_000, "nested too deep"),
    ],
    ids=["missing", "half", "list", "NaN", "digits", "deep"],
)
def test_json_that_is_wrong(content: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BundleError, match=f"^{re.escape(str(file))}: {message}"):
        read_json(file)


def test_what_diffusers_writes_of_dpm_solver_is_read() -> None:
    assert parse_json('{"lambda_min_clipped": -Infinity}', "x") == {"lambda_min_clipped": -math.inf}


def test_json_that_may_be_absent(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    assert read_json(file, optional=True) == {}
    file.write_text('{"steps": 20}')
    assert read_json(file, optional=True) == {"steps": 20}


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert short_digest({"a": 1, "b": 2}) == short_digest({"b": 2, "a": 1})
    assert short_digest({"a": 1}) != short_digest({"a": 2})


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path), os.mkfifo])
def test_what_stands_there_and_is_no_file_is_not_taken_for_absent(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "config.json")
    with pytest.raises(BundleError, match="not a regular file"):
        read_json(tmp_path / "config.json", optional=True)


def test_a_file_of_any_size_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(BundleError, match="1,099,511,627,776 bytes are too many"):
        read_json(file)


class Size(msgspec.Struct):
    width: Annotated[int, msgspec.Meta(ge=8)]
    sides: list[int] = []


def test_what_conforms_is_of_its_shape() -> None:
    assert conform({"width": 8, "sides": [1], "other": 2}, Size, "x.json") == Size(8, [1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"width": "8"}, "Expected int, got str at width"),
        ({"width": 0}, "Expected int >= 8 at width"),
        ({"width": 8, "sides": [1, None]}, r"Expected int, got null at sides\[1\]"),
        ({}, "Object missing required field width"),
        (3, "Expected object, got int"),
    ],
)
def test_what_does_not_names_the_field(content: object, message: str) -> None:
    with pytest.raises(SettingError, match=f"^x.json: {message}; do this$"):
        conform(content, Size, "x.json", "do this", error=SettingError)


def test_any_json_is_parsed() -> None:
    assert parse_json("[1]", "x") == [1]
