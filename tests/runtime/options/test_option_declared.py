"""Options: declared once as fields, and read from there."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from pleinair.runtime.options.option import Option, declared, gathered, option


@dataclass(frozen=True, kw_only=True)
class Boats:
    sails: int | None = option("--sails", "-s", metavar="N", help="how many", most=9)
    colour: str = option(
        "--colour", default="red", help="of the hull", choices=lambda: ("red", "blue")
    )
    crew: str | Sequence[str] = option(default="", recorded=False)


@dataclass(frozen=True, kw_only=True)
class Trees:
    height: float | Sequence[float] | None = option()
    wood: NDArray[np.float32] | None = option(recorded=False)
    old: Optional[bool] = option(default=False)  # noqa: UP045


def test_a_field_says_all_of_an_option() -> None:
    found = declared(Boats)
    assert list(found) == ["sails", "colour", "crew"]
    assert found["sails"] == Option(
        name="sails",
        type=int,
        default=None,
        flags=("--sails", "-s"),
        metavar="N",
        help="how many",
        most=9,
        hint=int | None,
    )
    assert found["colour"].default == "red"
    assert not found["crew"].recorded


def test_the_type_is_that_of_the_values() -> None:
    types = {name: one.type for name, one in declared(Trees).items()}
    assert types == {"height": float, "wood": np.ndarray, "old": bool}
    assert declared(Boats)["crew"].type is str


def test_a_summary_lists_the_choices() -> None:
    found = declared(Boats)
    assert found["sails"].summary == "how many"
    assert found["colour"].summary == "of the hull: red, blue"


def test_arguments_are_gathered_by_group() -> None:
    found = gathered([Boats, Trees], {"sails": np.int8(3), "height": 2.5})
    assert found == {Boats: Boats(sails=3), Trees: Trees(height=2.5)}
    assert gathered(iter([Boats]), {}) == {Boats: Boats()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sail", r"a call has no argument 'sail'; meant: sails"),
        ("zebra", r"a call has no argument 'zebra'$"),
        ("height", r"a call has no argument 'height'"),  # of a group that is not there
    ],
)
def test_an_argument_that_nobody_declares_is_a_type_error(name: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        gathered([Boats], {name: 1})


def test_a_group_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Boats().sails = 3  # type: ignore[misc]
