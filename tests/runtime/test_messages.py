"""What errors say: one line, cut, in the names of whoever asked."""

import pytest

from pleinair.runtime.errors import (
    Argument,
    Message,
    PleinairError,
    PromptError,
    SettingError,
    did_you_mean,
)

FLAGS = {"num_inference_steps": "--steps", "seed": "--seed"}


@pytest.mark.parametrize(
    ("message", "library", "command"),
    [
        ("plain {seed}", "plain {seed}", "plain {seed}"),
        (
            Message("{num_inference_steps} is {0}; give 1 or more", 0),
            "num_inference_steps is 0; give 1 or more",
            "--steps is 0; give 1 or more",
        ),
        (Message("{0} is {1!r}", Argument("seed"), "x"), "seed is 'x'", "--seed is 'x'"),
        (Message("{unknown} and {0:g}", 0.5), "unknown and 0.5", "unknown and 0.5"),
        # What a user typed is no field and no option, whatever it looks like.
        (Message("{0}: no file", "{seed} seed"), "{seed} seed: no file", "{seed} seed: no file"),
        (Message("{0}; again", Message("{seed} is 1")), "seed is 1; again", "--seed is 1; again"),
    ],
)
def test_the_command_line_says_flags(message: object, library: str, command: str) -> None:
    error = SettingError(message)
    assert str(error) == library
    assert error.spelled(FLAGS) == command


def test_an_error_about_an_error_is_spelled_too() -> None:
    inner = SettingError(Message("{seed} is {0}", -2))
    assert PromptError(inner).spelled(FLAGS) == "--seed is -2"
    assert str(PromptError(inner)) == "seed is -2"


def test_a_message_is_cut() -> None:
    error = PleinairError(Message("{0} is too long", "x" * 10**6))
    assert len(str(error)) < 2100
    assert len(error.spelled(FLAGS)) < 2100


def test_what_was_meant() -> None:
    assert did_you_mean("--stps", ["--steps", "--seed"]) == "; did you mean --steps?"
    assert did_you_mean("zebra", ["--steps", "--seed"]) == ""
    assert did_you_mean("x" * 10**6, ["--steps"]) == ""
