"""Files that appear whole or not at all, and JSON files that are wrong."""

import re
from pathlib import Path

import pytest

from pleinair.runtime.errors import BundleError
from pleinair.runtime.files import read_json, replacing, short_digest


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
    [(None, "missing; copy it there"), ("{", "not JSON"), ("[]", "not a JSON object")],
)
def test_json_that_is_wrong(content: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BundleError, match=f"^{re.escape(str(file))}: {message}"):
        read_json(file)


def test_json_that_may_be_absent(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    assert read_json(file, optional=True) == {}
    file.write_text('{"steps": 20}')
    assert read_json(file, optional=True) == {"steps": 20}


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert short_digest({"a": 1, "b": 2}) == short_digest({"b": 2, "a": 1})
    assert short_digest({"a": 1}) != short_digest({"a": 2})
