"""A pickle carried out by hand: what a file of numbers needs, within bounds, and nothing else.

Python's own unpickler calls whatever a pickle names. Even where every name is refused, it hashes a
key of 200,000 nested tuples until the process dies, and makes room for a memo of any size. Here
keys are text or numbers, and everything is paid for by the pickle's own length.
"""

import pickletools
from collections.abc import Callable, Sequence
from typing import Any

_MOST_OPERATIONS = 400_000
"""torch.save writes some forty for a tensor; the largest LoRA files have five thousand."""
_DEEPEST = 32
"""torch nests six deep."""

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MEMORIZING = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_REMEMBERING = {"GET", "BINGET", "LONG_BINGET"}
_IGNORED = {"PROTO", "FRAME"}


class RefusedError(ValueError):
    """A pickle asks for what could run code."""


class Unpickling:
    """One pickle.

    named: what "module name" stands for; RefusedError where it is not allowed.
    called: what a call of such a thing with these arguments gives.
    stored: what a persistent id stands for, torch's numbers.
    told: lets an object take up its state.
    """

    def __init__(
        self,
        named: Callable[[str], Any],
        called: Callable[[Any, tuple[Any, ...]], Any],
        stored: Callable[[Any], Any],
        told: Callable[[Any, Any], None],
    ) -> None:
        self._named, self._called, self._stored, self._told = named, called, stored, told
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._depths: dict[int, int] = {}
        self._kept: list[Any] = []  # an id means an object for as long as it lives

    def load(self, pickled: bytes) -> Any:
        """The object; ValueError or RefusedError where the pickle is none, or asks for more."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            if number >= _MOST_OPERATIONS:
                raise ValueError("its pickle is too long")
            if opcode.name == "STOP":
                return self._stack.pop()
            self._do(opcode.name, argument)
        raise ValueError("its pickle has no end")

    def _do(self, operation: str, argument: Any) -> None:
        stack = self._stack
        if operation in _VALUES:
            stack.append(argument)
        elif operation in _MEMORIZING:
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif operation in _REMEMBERING:
            stack.append(self._memo[argument])
        elif operation in _CONSTANTS:
            stack.append(_CONSTANTS[operation])
        elif operation in _EMPTY:
            stack.append(_EMPTY[operation]())
        elif operation in _TUPLES:
            self._push(tuple(self._taken(_TUPLES[operation])))
        elif operation == "TUPLE":
            self._push(tuple(self._since_mark()))
        elif operation == "LIST":
            self._push(self._since_mark())
        elif operation == "DICT":
            self._fill({}, self._since_mark())
        elif operation in ("APPEND", "APPENDS"):
            self._extend(self._taken(1) if operation == "APPEND" else self._since_mark())
        elif operation in ("SETITEM", "SETITEMS"):
            items = self._taken(2) if operation == "SETITEM" else self._since_mark()
            self._fill(stack.pop(), items)
        elif operation in ("GLOBAL", "STACK_GLOBAL"):
            name = argument if operation == "GLOBAL" else "{} {}".format(*self._texts(2))
            stack.append(self._named(name))
        elif operation in ("REDUCE", "NEWOBJ"):
            function, arguments = self._taken(2)
            stack.append(self._called(function, arguments))
        elif operation in ("BINPERSID", "PERSID"):
            stack.append(self._stored(stack.pop() if argument is None else argument))
        elif operation == "BUILD":
            (state,) = self._taken(1)
            self._told(stack[-1], state)
        elif operation == "POP":
            stack.pop()
        elif operation not in _IGNORED:
            raise RefusedError(f"it asks for {operation}, which no file of numbers needs")

    def _taken(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("its pickle takes more than it gives")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _texts(self, count: int) -> list[str]:
        found = self._taken(count)
        if not all(isinstance(text, str) for text in found):
            raise RefusedError("it asks for a name that is no text")
        return found

    def _since_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _push(self, container: Sequence[Any]) -> None:
        self._nest(container, container)
        self._stack.append(container)

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError("it adds to what is no list")
        self._nest(target, items)
        target.extend(items)

    def _fill(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("it sets items of what is no dictionary")
        keys, values = items[::2], items[1::2]
        if not all(type(key) in (str, int) for key in keys):
            raise ValueError("a key of it is neither text nor a number")
        self._nest(target, values)
        target.update(zip(keys, values, strict=True))
        self._stack.append(target)

    def _nest(self, container: Any, items: Sequence[Any]) -> None:
        depth = 1 + max((self._depths.get(id(item), 0) for item in items), default=0)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if id(container) not in self._depths:
            self._kept.append(container)
        self._depths[id(container)] = max(depth, self._depths.get(id(container), 0))
