"""Prompts joined with AND: webui's syntax, and Liu et al.'s equation under guidance."""

import logging
import re

import numpy as np
import pytest

from pleinair.runtime.denoise.guidance import (
    CONDITIONAL,
    UNCONDITIONAL,
    Guidance,
    classifier_free,
    instructed,
)
from pleinair.runtime.errors import PromptError
from pleinair.runtime.text.composition import MOST_PARTS, Part, parts_of

# The published syntax: the number behind the last colon, if it is nothing but a number.
_PUBLISHED = re.compile(r"^((?:\s|.)*?)(?:\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+)))?\s*$")


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat AND a dog",
        "a cat :1.2 AND a dog AND a penguin :2.2",
        "a AND b:0.8\nAND c : -1. AND d :.5 ",
        "a (b:1.2) AND [c:d:5] AND e:f AND 16:9",
        "SAND AND a BAND AND",
        "AND",
        "a:1:2 AND b::3 AND c:+4 AND d:1e3",
        "a  :  0.5  AND\tb",
    ],
)
def test_webui_s_syntax(prompt: str) -> None:
    expected = []
    for text in re.split(r"\bAND\b", prompt):
        found = _PUBLISHED.search(text)
        assert found
        expected.append(Part(found[1].strip(), float(found[2] or 1)))
    assert parts_of(prompt) == expected


@pytest.mark.parametrize("prompt", ["a cat", "a sAND castle", " a and b ", "(a:1.2)", ""])
def test_one_prompt_is_as_it_stands(prompt: str, caplog: pytest.LogCaptureFixture) -> None:
    assert parts_of(prompt) == [Part(prompt)]
    assert not caplog.records


def test_a_weight_of_a_prompt_alone_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert parts_of("a photo, 16:9") == [Part("a photo, 16:9")]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith("':9' at the end of the prompt is painted as text")


def test_too_many_parts_are_refused() -> None:
    assert len(parts_of(" AND ".join("a" * MOST_PARTS))) == MOST_PARTS
    with pytest.raises(PromptError, match="join fewer"):
        parts_of("a AND " * 100_000)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.8], [0.5, -1.0, 2.0]])
def test_each_prompt_adds_what_it_changes_times_its_weight(weights: list[float]) -> None:
    joined = classifier_free(7.5).joined(weights)
    random = np.random.default_rng(0)
    found = {
        branch: random.normal(size=(1, 4, 2, 3)).astype(np.float32) for branch in joined.branches
    }
    without, *prompted = (found[branch].astype(np.float64) for branch in joined.branches)
    expected = without + 7.5 * sum(
        weight * (one - without) for weight, one in zip(weights, prompted, strict=True)
    )
    combined = joined.combine(found)
    assert combined.dtype == np.float32
    np.testing.assert_allclose(combined, expected, rtol=1e-4, atol=1e-4)
    assert joined.branches[:2] == (UNCONDITIONAL, CONDITIONAL)


def test_guidance_that_joins_nothing() -> None:
    assert not Guidance().joins
    assert not instructed(7.5, 1.5).joins
    assert classifier_free(7.5).joins
