"""A value checked by the type that is declared for it: of an option, or of an argument."""

import collections.abc
import functools
import inspect
import io
import operator
import os
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, ParamSpec, TypeVar

import numpy as np
from PIL import Image

from ..errors import Argument, Message, SettingError, shown

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_WORDS = {
    bool: ("True or False", "True or False"),
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    str: ("a text", "texts"),
    os.PathLike: ("a path", "paths"),
    bytes: ("the bytes of a file", "bytes of files"),
    BinaryIO: ("an open binary file", "open binary files"),
    Image.Image: ("a PIL picture", "PIL pictures"),
    np.ndarray: ("a numpy array of numbers", "numpy arrays of numbers"),
    collections.abc.Callable: ("a function", "functions"),
    tuple: ("a pair", "pairs"),
}
"""Type -> what it is called: one of it, several."""
# Whole numbers that some C type holds: seeds are the largest that there are.
_WHOLE = range(-(2**63), 2**64)


class _UnfitError(Exception):
    """A value is of another type."""


def conform(name: str, value: Any, hint: Any) -> Any:
    """The value as the type says: numpy's numbers become Python's, arrays become numpy's.

    hint: a class, a union, or Sequence, tuple, NDArray or Callable of such. A bool is no number.
    Raises SettingError, naming the argument and what it may be.
    """
    try:
        return _conformed(value, hint)
    except _UnfitError:
        *others, last = _named(hint)
        words = f"{', '.join(others)} or {last}" if others else last
        message = Message("{0} is {1}; give {2}", Argument(name), _shown(value), words)
        raise SettingError(message) from None


def typed(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function whose arguments are checked by its annotations: see `conform`."""
    signature = inspect.signature(function)
    named = {
        name
        for name, one in signature.parameters.items()
        if one.kind is not one.VAR_KEYWORD and one.annotation is not one.empty
    }

    @functools.wraps(function)
    def checked(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        bound, hints = signature.bind(*args, **kwargs), typing.get_type_hints(function)
        for name in named & bound.arguments.keys():
            bound.arguments[name] = conform(name, bound.arguments[name], hints[name])
        return function(*bound.args, **bound.kwargs)

    return checked


def parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type and its arguments: `list` and `(int,)` of `list[int]`, a class and `()` of a class.

    An alias is written out: from numpy 2.5 on `NDArray` is one.
    """
    alias = typing.get_origin(hint)
    if hasattr(alias, "__value__"):
        hint = alias.__value__[typing.get_args(hint)]
    return typing.get_origin(hint) or hint, typing.get_args(hint)


def _conformed(value: Any, hint: Any) -> Any:
    if hint is Any:
        return value
    form, inner = parts(hint)
    if form in (typing.Union, types.UnionType):
        return _one_of(value, inner)
    if form is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(inner):
            raise _UnfitError
        return tuple(_conformed(one, of) for one, of in zip(value, inner, strict=True))
    if form is collections.abc.Sequence:
        return [_conformed(one, inner[0]) for one in _several(value)]
    if form is np.ndarray:
        return _array(value, inner)
    if form in _READERS:
        return _READERS[form](value)
    if form is collections.abc.Callable:
        form = Callable
    if not isinstance(value, form):
        raise _UnfitError
    return value


def _one_of(value: Any, hints: Sequence[Any]) -> Any:
    for hint in hints:
        try:
            return _conformed(value, hint)
        except _UnfitError:
            continue
    raise _UnfitError


def _several(value: Any) -> Sequence[Any]:
    """A sequence that is no text; of numpy's arrays those in one row."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return list(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview):
        raise _UnfitError
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool | np.bool_) or np.ndim(value):
        raise _UnfitError
    try:
        number = operator.index(value)
    except TypeError:
        raise _UnfitError from None
    if number not in _WHOLE:
        raise _UnfitError
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        raise _UnfitError
    if isinstance(value, np.ndarray | np.generic) and (value.ndim or value.dtype.kind not in "iuf"):
        raise _UnfitError
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise _UnfitError from None
    if not np.isfinite(number):
        raise _UnfitError
    return number


def _truth(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _UnfitError
    return bool(value)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _UnfitError
    return bytes(value)


def _file(value: Any) -> Any:
    if not callable(getattr(value, "read", None)) or isinstance(value, io.TextIOBase):
        raise _UnfitError
    return value


def _array(value: Any, inner: Sequence[Any]) -> Any:
    """What is an array, or knows how to become one, as a torch tensor does.

    inner: of the annotation: any shape, and the type of the numbers.
    """
    if not hasattr(value, "__array__") or isinstance(value, np.generic | Image.Image):
        raise _UnfitError
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):
        raise _UnfitError from None
    if array.dtype.kind not in "biuf":
        raise _UnfitError
    (dtype,) = typing.get_args(inner[1]) if inner else (Any,)
    with np.errstate(over="ignore"):
        return array if dtype is Any else array.astype(dtype, copy=False)


_READERS: dict[Any, Callable[[Any], Any]] = {
    int: _whole,
    float: _number,
    bool: _truth,
    bytes: _bytes,
    BinaryIO: _file,
}
"""Types that more than their instances are taken for, or fewer."""


def _named(hint: Any, number: int = 0) -> list[str]:
    """What may be given: one of it, or with `number` 1 several."""
    form, inner = parts(hint)
    if form in (typing.Union, types.UnionType):
        each = [
            words for one in inner if one is not types.NoneType for words in _named(one, number)
        ]
        return list(dict.fromkeys(each))
    if form is collections.abc.Sequence:
        return [f"a list of {' or '.join(_named(inner[0], 1))}"]
    found = (words for type, words in _WORDS.items() if form is type or _is_kind(form, type))
    return [next(found, (getattr(form, "__name__", str(form)),) * 2)[number]]


def _is_kind(form: Any, type: Any) -> bool:
    return inspect.isclass(form) and inspect.isclass(type) and issubclass(form, type)


def _shown(value: Any) -> str:
    try:
        return shown(repr(value))
    except Exception:  # somebody's object, or a number of more digits than Python writes
        return f"of type {type(value).__name__}"
