"""What the branches are told: one batch of them, and the one of each step."""

import numpy as np

from pleinair.runtime.denoise.conditioning import Conditioning, Schedule


def conditioning(value: float, key: int = 0) -> Conditioning:
    branches = {
        branch: {
            "encoder_hidden_states": np.full((1, 3, 2), value + i, np.float32),
            "time_ids": np.full((1, 6), 10 * (value + i), np.float32),
        }
        for i, branch in enumerate(("conditional", "unconditional", "picture alone"))
    }
    return Conditioning(branches, dict.fromkeys(branches, key))


def test_a_batch_has_a_row_for_each_branch_in_the_order_asked() -> None:
    batch = conditioning(1).batch(("unconditional", "conditional"))
    assert list(batch) == ["encoder_hidden_states", "time_ids"]
    assert batch["encoder_hidden_states"].shape == (2, 3, 2)
    assert batch["encoder_hidden_states"][:, 0, 0].tolist() == [2, 1]
    assert batch["time_ids"][:, 0].tolist() == [20, 10]


def test_shapes_are_those_of_the_batch() -> None:
    asked = ("conditional",)
    shapes = conditioning(1).shapes(asked)
    assert shapes == {"encoder_hidden_states": (1, 3, 2), "time_ids": (1, 6)}
    assert shapes == {name: value.shape for name, value in conditioning(1).batch(asked).items()}


def test_a_schedule_says_which_conditioning_a_step_has() -> None:
    first, second = conditioning(1, key=0), conditioning(5, key=1)
    schedule = Schedule([first, second], [0, 0, 1, 0])
    keys = [schedule.at(step).key(("conditional",)) for step in range(4)]
    assert keys == [(0,), (0,), (1,), (0,)]
    assert schedule.at(2) is second
