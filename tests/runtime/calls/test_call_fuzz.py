"""Whatever stands in a call: what is planned, or one line that names the argument."""

import inspect
import io
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image

from fakes import POCKET, opened, xl_folder
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import PleinairError
from pleinair.runtime.families import GROUPS
from pleinair.runtime.options.migration import CALL
from pleinair.runtime.options.option import declared

OPTIONS = {name: one for group in GROUPS for name, one in declared(group).items()}
PICTURE = Image.new("RGB", (64, 64), (10, 200, 30))


class Odd:
    """Has nothing that anybody could use."""

    def __repr__(self) -> str:
        raise RuntimeError("not even a name")


def stream() -> io.BytesIO:
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    return file


NUMBERS: list[Any] = [
    *(0, 1, 2, 3, 8, 16, 56, 64, 72, 128, 1000, -1, -8, 2**31, 2**63, 2**64, 10**9, 10**400),
    *(0.0, 0.3, 0.5, 1.0, 2.5, 7.5, -0.5, 1e-300, 1e9, 1e300, math.nan, math.inf, -math.inf),
    *(True, False, 1j, np.int64(64), np.uint8(8), np.float16(0.5), np.float32(math.nan)),
    *(np.array(64), np.array([64]), np.bool_(1)),
]
TEXTS: list[Any] = ["", "boat", "64", "7.5", "auto", "pil", "(a:1.2", "a\0b", "boat " * 100, "🚣"]
THINGS: list[Any] = [
    *(b"", b"boat", [], [[0]], ["boat"], ["boat", None], ["boat"] * 3, ("a", "b"), {}, {"a": 1}),
    *((64, 64), [0.5, 0.5], set(), object(), Odd(), print, Odd, Ellipsis, range(3), Path("boat")),
    *(PICTURE, [PICTURE], stream(), io.StringIO("boat"), np.zeros((64, 64, 3), np.uint8)),
    *(np.zeros((1, 4, 8, 8)), np.full((1, 4, 8, 8), np.nan), np.zeros(0), np.array(["boat"])),
    np.zeros((1, 4, 8, 8), object),
]
ANY = some.sampled_from([None, *NUMBERS, *TEXTS, *THINGS])


def value_of(name: str) -> some.SearchStrategy[Any]:
    """Of the option, half of the time of its choices and of its type."""
    choices = OPTIONS[name].choices
    fitting = {int: NUMBERS[:11], float: [0.3, 0.5, 1.0], bool: [True, False], str: TEXTS}
    usual = [*(choices() if choices else ()), *fitting.get(OPTIONS[name].type, [PICTURE])]
    return some.one_of(some.sampled_from(usual), ANY)


@some.composite
def calls(draw: Any) -> dict[str, Any]:
    names = draw(some.lists(some.sampled_from(sorted(OPTIONS)), max_size=5, unique=True))
    return {"prompt": "boat", **{name: draw(value_of(name)) for name in names}}


@pytest.fixture(scope="module")
def pocket() -> Any:
    return StableDiffusionPipeline.from_pretrained(POCKET, profile="exact")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return opened(xl_folder(tmp_path_factory.mktemp("fuzz") / "xl"))


def check(pipe: Any, call: dict[str, Any]) -> None:
    begun = time.monotonic()
    try:
        str(pipe.plan(**call))
    except PleinairError as error:
        message = str(error)
        assert message
        assert len(message) <= 2000
        assert "\n" not in message
    assert time.monotonic() - begun < 5


@pytest.mark.filterwarnings("error")
@settings(
    max_examples=250,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(call=calls())
def test_any_call_is_planned_or_refused_in_a_line(pocket: Any, call: dict[str, Any]) -> None:
    check(pocket, call)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(call=calls())
def test_any_call_of_another_family(xl: Any, call: dict[str, Any]) -> None:
    check(xl, call)


def test_each_option_with_each_value(xl: Any) -> None:
    for name in OPTIONS:
        for value in [None, *NUMBERS, *TEXTS, *THINGS]:
            check(xl, {"prompt": "boat", name: value})


@pytest.mark.parametrize("name", ["callback_on_step_end", "callback_on_stage"])
def test_what_is_no_callback(pocket: Any, name: str) -> None:
    for value in (5, "boat", b"", [print], {}):
        with pytest.raises(PleinairError, match=f"^{name} is .*; give a function$"):
            pocket.plan("boat", **{name: value})


def test_names_that_are_none_are_type_errors(pocket: Any) -> None:
    for name in ("zebra", "Width", "self_", "é"):
        with pytest.raises(TypeError, match=f"a call has no argument {name!r}"):
            pocket.plan("boat", **{name: 1})


def test_the_fuzz_knows_every_argument() -> None:
    signature = inspect.signature(StableDiffusionPipeline.plan).parameters
    named = set(signature) - {"self", "options", "callback_on_step_end", "callback_on_stage"}
    assert named <= set(OPTIONS)
    assert not CALL.keys() & set(OPTIONS)
