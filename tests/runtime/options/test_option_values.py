"""One check of a value by its declared type, for options and for arguments."""

import io
import types
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pleinair.runtime.errors import SettingError
from pleinair.runtime.options.groups import Numbers, PictureSource
from pleinair.runtime.options.values import conform, parts, typed

PICTURE = Image.new("RGB", (1, 1))


class Indexed:
    def __index__(self) -> int:
        return 7


class Tensor:
    """No array, and knows how to become one, as torch's do."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return np.ones(2, np.float16)


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "hint", "found"),
    [
        (np.int64(7), int, 7),
        (np.uint8(7), int | None, 7),
        (np.array(7), int, 7),
        (Indexed(), int, 7),
        (None, int | None, None),
        (7, float, 7.0),
        (np.float32(0.5), float, 0.5),
        (np.array(0.5), float, 0.5),
        (Fraction(1, 2), float | None, 0.5),
        (Decimal("0.5"), float, 0.5),
        (np.bool_(1), bool, True),
        (np.str_("a"), str, "a"),
        (("a", "b"), str | Sequence[str], ["a", "b"]),
        (np.array([1, 2]), Numbers, [1.0, 2.0]),
        ([1, np.float16(2)], Numbers, [1.0, 2.0]),
        (3, Numbers, 3.0),
        ([768, np.int32(1024)], str | tuple[int, int], (768, 1024)),
        ("768x1024", str | tuple[int, int], "768x1024"),
        (Path("a"), PictureSource, Path("a")),
        (bytearray(b"a"), PictureSource, b"a"),
        (PICTURE, PictureSource, PICTURE),
        (print, Callable[..., Any] | None, print),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_come_as_the_type(value: Any, hint: Any, found: Any) -> None:
    made = conform("it", value, hint)
    assert made == found
    assert type(made) is type(found) or isinstance(value, type(made))


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        ("64", int | None, "'64'; give a whole number"),
        (2.5, int, "2.5; give a whole number"),
        (np.float32(2), int, r".*2.*; give a whole number"),
        (True, int, "True; give a whole number"),
        (np.bool_(1), int, ".*True.*; give a whole number"),
        (10**400, int, r"10000.*…0000.*; give a whole number"),
        (10**5000, int, "1?.*; give a whole number"),
        (np.array([1]), int, r"array\(\[1\]\); give a whole number"),
        ("7.5", float, "'7.5'; give a finite number"),
        (float("nan"), float | None, "nan; give a finite number"),
        (float("inf"), float, "inf; give a finite number"),
        (10**400, float, "1000.*; give a finite number"),
        (True, float, "True; give a finite number"),
        (1j, float, "1j; give a finite number"),
        (np.str_("7"), float, ".*; give a finite number"),
        (np.datetime64("2020"), float, ".*; give a finite number"),
        (1, bool, "1; give True or False"),
        (b"a", str, "b'a'; give a text"),
        ({"a": 1}, str | Sequence[str], r"\{'a': 1\}; give a text or a list of texts"),
        (["a", None], str | Sequence[str], ".*; give a text or a list of texts"),
        ("a.safetensors", Sequence[str | Path], "'a.*; give a list of texts or paths"),
        ([1.0, "2"], Numbers, ".*; give a finite number or a list of finite numbers"),
        ((1, 2, 3), str | tuple[int, int], r"\(1, 2, 3\); give a text or a pair"),
        ([[0]], NDArray[np.float32], r"\[\[0\]\]; give a numpy array of numbers"),
        (np.array(["a"]), NDArray[np.float32], ".*; give a numpy array of numbers"),
        (np.array([1j]), NDArray[np.float32], ".*; give a numpy array of numbers"),
        (io.StringIO(), PictureSource, ".*; give a text, a path, the bytes of a file, an open b.*"),
        (5, Callable[..., Any] | None, "5; give a function"),
        (Unspeakable(), int, "of type Unspeakable; give a whole number"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_another_type_is_named(value: Any, hint: Any, words: str) -> None:
    with pytest.raises(SettingError, match=f"^it is {words}$") as caught:
        conform("it", value, hint)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_arrays_come_in_the_declared_format() -> None:
    made = conform("it", np.array([1, 2], np.float64), NDArray[np.float32])
    assert made.dtype == np.float32
    kept = np.zeros((2, 2), np.uint16)
    assert conform("it", kept, PictureSource) is kept
    made = conform("it", Tensor(), NDArray[np.float32])
    assert (type(made), made.dtype) == (np.ndarray, np.float32)


def test_an_alias_is_what_it_stands_for() -> None:
    """From numpy 2.5 on NDArray is an alias of Python's, which names its value."""
    scalar = TypeVar("scalar")
    array = SimpleNamespace(__value__=types.GenericAlias(np.ndarray, (Any, np.dtype[scalar])))
    hint = types.GenericAlias(array, (np.float32,))
    assert parts(hint) == (np.ndarray, (Any, np.dtype[np.float32]))
    assert parts(NDArray[np.float32])[0] is np.ndarray
    assert conform("it", np.array([1, 2], np.float64), hint).dtype == np.float32
    with pytest.raises(SettingError, match="give a numpy array of numbers"):
        conform("it", [1, 2], hint)


def test_a_function_s_annotations_are_its_checks() -> None:
    @typed
    def sail(sails: int, colour: str = "red", *, crew: Sequence[str] = (), **others: Any) -> Any:
        return sails, colour, crew, others

    assert sail(np.int8(3), crew=("a",), wind=5) == (3, "red", ["a"], {"wind": 5})
    with pytest.raises(SettingError, match=r"^colour is 3; give a text$"):
        sail(1, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="sails"):
        sail()  # type: ignore[call-arg]
