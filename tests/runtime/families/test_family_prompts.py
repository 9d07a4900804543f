"""Prompts to conditioning: who is told what, and when that changes; the encoder is a function."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pleinair.runtime.denoise.guidance import (
    CONDITIONAL,
    PICTURE_ALONE,
    UNCONDITIONAL,
    Guidance,
    classifier_free,
    instructed,
)
from pleinair.runtime.families.prompts import conditioned
from pleinair.runtime.text.prompt import TokenizedPrompt


@dataclass(frozen=True)
class Text:
    value: float
    length: int = 1


class Encoder:
    def __init__(self) -> None:
        self.asked: list[tuple[float, int, int | None]] = []

    def encode(self, text: Text, length: int, clip_skip: int | None = None) -> Any:
        self.asked.append((text.value, length, clip_skip))
        return {"words": np.full((1, length), text.value, np.float32)}


def prompt(*values: float, order: Any = None, length: int = 1) -> TokenizedPrompt:
    return TokenizedPrompt([Text(value, length) for value in values], order or [0, 0, 0, 0])


def told(branch: str) -> dict[str, np.ndarray]:
    return {"sizes": np.full((1, 2), len(branch), np.float32)}


def seen(schedule: Any, step: int) -> dict[str, float]:
    branches = schedule.at(step).branches
    return {branch: inputs["words"][0, 0].item() for branch, inputs in branches.items()}


def test_each_branch_is_told_its_text_and_what_is_beside_it() -> None:
    encoder = Encoder()
    schedule = conditioned(
        encoder, prompt(2), prompt(1), guidance=classifier_free(5), extra_inputs=told, clip_skip=3
    )
    assert seen(schedule, 0) == {UNCONDITIONAL: 1, CONDITIONAL: 2}
    assert encoder.asked == [(2, 1, 3), (1, 1, None)]  # clip_skip is the prompt's, as in diffusers
    batch = schedule.at(0).batch((UNCONDITIONAL, CONDITIONAL))
    assert batch["sizes"][:, 0].tolist() == [len(UNCONDITIONAL), len(CONDITIONAL)]
    assert len(schedule.each) == 1


def test_without_guidance_the_negative_prompt_is_not_encoded() -> None:
    encoder = Encoder()
    long = prompt(1, length=3)
    schedule = conditioned(encoder, prompt(2), long, guidance=Guidance(), extra_inputs=told)
    assert seen(schedule, 0) == {CONDITIONAL: 2}
    assert encoder.asked == [(2, 1, None)]


def test_both_are_padded_to_the_longer_one() -> None:
    encoder = Encoder()
    conditioned(
        encoder, prompt(2), prompt(1, length=3), guidance=classifier_free(5), extra_inputs=told
    )
    assert encoder.asked == [(2, 3, None), (1, 3, None)]


def test_no_negative_prompt_may_be_zeros() -> None:
    encoder = Encoder()
    schedule = conditioned(encoder, prompt(2), None, guidance=classifier_free(5), extra_inputs=told)
    assert seen(schedule, 0) == {UNCONDITIONAL: 0, CONDITIONAL: 2}
    assert len(encoder.asked) == 1
    assert schedule.at(0).branches[UNCONDITIONAL]["sizes"].all()


def test_a_picture_alone_is_told_the_negative_prompt() -> None:
    schedule = conditioned(
        Encoder(), prompt(2), prompt(1), guidance=instructed(5, 2), extra_inputs=told
    )
    assert seen(schedule, 0) == {CONDITIONAL: 2, PICTURE_ALONE: 1, UNCONDITIONAL: 1}


def test_keys_change_when_either_prompt_does() -> None:
    encoder = Encoder()
    schedule = conditioned(
        encoder,
        prompt(2, 3, order=[0, 1, 1, 0]),
        prompt(0, 1, order=[0, 0, 1, 0]),
        guidance=classifier_free(5),
        extra_inputs=told,
    )
    found = [tuple(seen(schedule, step).values()) for step in range(4)]
    assert found == [(0, 2), (0, 3), (1, 3), (0, 2)]
    keys = [schedule.at(step).keys for step in range(4)]
    assert [one[CONDITIONAL] for one in keys] == [0, 1, 1, 0]
    assert [one[UNCONDITIONAL] for one in keys] == [0, 0, 1, 0]
    assert len(encoder.asked) == 4  # each text once


def test_without_guidance_the_negative_prompt_s_changes_are_none() -> None:
    schedule = conditioned(
        Encoder(),
        prompt(2),
        prompt(0, 1, order=[0, 1, 0, 1]),
        guidance=Guidance(),
        extra_inputs=told,
    )
    assert len(schedule.each) == 1
