"""ControlNets of a call: how much they add, when, to which rows; their graphs are functions."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import Counting, controlnet
from pleinair.runtime.denoise.conditioning import Conditioning
from pleinair.runtime.denoise.control import ControlledBy, Controls, Steering
from pleinair.runtime.denoise.feature_cache import Evaluation
from pleinair.runtime.denoise.guidance import CONDITIONAL, UNCONDITIONAL
from pleinair.runtime.errors import SettingError
from pleinair.runtime.images.condition import Condition
from pleinair.runtime.model.controlnet import ControlNet
from pleinair.runtime.model.latent_space import LatentSpace
from pleinair.runtime.model.tiles import Tiles
from pleinair.runtime.options.groups import Control

CONFIG = {"block_out_channels": [2, 4], "layers_per_block": 1, "cross_attention_dim": 3}
BOTH = (UNCONDITIONAL, CONDITIONAL)
PICTURE = Image.new("RGB", (40, 24), (255, 0, 51))
FIRST = Evaluation(0, 4)


def net(weight: float = 1.0, **config: Any) -> ControlNet:
    return controlnet({**CONFIG, **config}, weight)


def controlled(**changed: Any) -> ControlledBy:
    given = {"net": net(), "condition": Condition(PICTURE), "scale": 1.0, "start": 0.0, "end": 1.0}
    return ControlledBy(**{**given, **changed})


SECOND = f"{CONDITIONAL} 2"  # of two prompts that AND joins


def told() -> Conditioning:
    branches = {
        branch: {
            "encoder_hidden_states": np.full((1, 5, 3), value, np.float32),
            "time_ids": np.zeros((1, 6), np.float32),
        }
        for branch, value in ((UNCONDITIONAL, 1), (CONDITIONAL, 10), (SECOND, 20))
    }
    return Conditioning(branches, dict.fromkeys(branches, 0))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 1, [0, 1, 2, 3]), (0.25, 1, [1, 2, 3]), (0, 0.5, [0, 1]), (0.3, 0.8, [2])],
)
def test_an_evaluation_counts_as_a_whole(start: float, end: float, expected: list[int]) -> None:
    """diffusers: kept unless i / n < start or (i + 1) / n > end."""
    control = controlled(start=start, end=end)
    assert [i for i in range(4) if control.acts(Evaluation(i, 4))] == expected


def test_at_a_scale_of_zero_it_never_acts() -> None:
    assert not controlled(scale=0.0).acts(FIRST)


def test_in_guess_mode_lower_residuals_count_more() -> None:
    control = controlled(scale=2.0)
    np.testing.assert_array_equal(control.scales(3, guess=False), [2, 2, 2])
    np.testing.assert_allclose(control.scales(3, guess=True), [0.2, 2 / 10**0.5, 2], rtol=1e-6)
    pooled = controlled(net=net(global_pool_conditions=True))
    np.testing.assert_array_equal(pooled.scales(3, guess=True), [1, 1, 1])


def test_without_controlnets_nothing_is_asked_of_them() -> None:
    assert Controls.of([], Control(), 1.0) is None
    for asked in (
        Control(control_image=PICTURE),
        Control(guess_mode=True),
        Control(control_guidance_end=0.5),
    ):
        with pytest.raises(SettingError, match="none is open; open the model with controlnet"):
            Controls.of([], asked, 1.0)


def test_numbers_are_one_for_all_or_one_for_each() -> None:
    nets = [net(0.5), net(2.0)]
    one = Controls.of(nets, Control(control_image=[PICTURE] * 2), 0.8)
    assert [control.scale for control in one.each] == [0.4, 1.6]
    assert {(control.start, control.end) for control in one.each} == {(0, 1)}
    asked = Control(
        control_image=[PICTURE] * 2,
        controlnet_conditioning_scale=[1, 0.25],
        control_guidance_start=[0, 0.1],
        control_guidance_end=0.9,
    )
    several = Controls.of(nets, asked, 0.8)
    found = [(control.scale, control.start, control.end) for control in several.each]
    assert found == [(0.5, 0, 0.9), (0.5, 0.1, 0.9)]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "a ControlNet follows a picture; give control_image"),
        ({"control_image": [PICTURE] * 2}, "control_image is 2 pictures for 1 ControlNets"),
        ({"controlnet_conditioning_scale": -1}, r"controlnet_conditioning_scale is -1;"),
        ({"controlnet_conditioning_scale": float("nan")}, "controlnet_conditioning_scale is nan"),
        ({"controlnet_conditioning_scale": [1, 1]}, "has 2 numbers for 1 ControlNets; give 1"),
        ({"control_guidance_start": 0.6, "control_guidance_end": 0.5}, "0 <= start < end <= 1"),
        ({"control_guidance_end": 1.5}, "0 <= start < end <= 1"),
    ],
)
def test_what_cannot_be_asked(asked: dict[str, Any], message: str) -> None:
    given = {"control_image": PICTURE, **asked} if asked else {}
    with pytest.raises(SettingError, match=message):
        Controls.of([net()], Control(**given), 1.0)


def test_a_pooled_net_is_in_guess_mode_by_itself() -> None:
    asked = Control(control_image=PICTURE)
    assert not Controls.of([net()], asked, 1.0).guess
    assert Controls.of([net(global_pool_conditions=True)], asked, 1.0).guess


def test_the_size_is_the_first_picture_s_rounded_down() -> None:
    controls = Controls((controlled(),), guess=False)
    assert controls.size(16) == (32, 16)
    with pytest.raises(SettingError, match="control_image is 40x24"):
        controls.size(64)


def steering(
    *each: ControlledBy, guess: bool = False, tiles: Tiles | None = None
) -> tuple[Steering, list[Counting]]:
    """With graphs whose residuals are all the mean of the text they are told, plus one each."""

    def compute(number: int) -> Any:
        def graph(feeds: Any) -> dict[str, Any]:
            rows = feeds["encoder_hidden_states"].mean(axis=(1, 2))
            shapes = net().residuals(len(rows), *feeds["sample"].shape[2:])
            return {
                f"out_{i}": np.broadcast_to(rows[:, None, None, None] + number, shape)
                for i, shape in enumerate(shapes.values())
            }

        return graph

    tiles = tiles or Tiles.covering((3, 5))
    made = Steering(Controls(each, guess), LatentSpace(), tiles, "stretch")
    graphs = [Counting(compute(number)) for number in range(len(each))]
    made.graphs = graphs
    return made, graphs


def residuals(made: Steering, branches: Any = BOTH, **changed: Any) -> dict[str, Any]:
    given = {"evaluation": FIRST, "tile": 0, "sample": np.zeros((1, 4, 3, 5)), "t": 7}
    return made.residuals(told(), branches, **{**given, **changed})


def test_residuals_are_the_sum_of_all_nets_times_their_scales() -> None:
    made, graphs = steering(controlled(scale=1.0), controlled(scale=0.5))
    found = residuals(made)
    assert {name: value.shape for name, value in found.items()} == net().residuals(2, 3, 5)
    for value in found.values():
        assert (value[0] == 1 + 0.5 * 2).all()
        assert (value[1] == 10 + 0.5 * 11).all()
        assert value.dtype == np.float32
    (feeds,) = graphs[0].fed
    assert feeds.keys() == {"sample", "timestep", "encoder_hidden_states", "controlnet_cond"}
    assert feeds["controlnet_cond"].shape == (1, 3, 24, 40)
    np.testing.assert_allclose(feeds["controlnet_cond"][0, :, 0, 0], [1, 0, 0.2])


def test_a_net_that_does_not_act_is_not_asked() -> None:
    made, graphs = steering(controlled(start=0.5), controlled(scale=2.0))
    found = residuals(made)
    assert all((value[0] == 2 * 2).all() for value in found.values())
    assert [len(graph.fed) for graph in graphs] == [0, 1]


def test_in_guess_mode_the_unconditional_row_is_left_alone() -> None:
    made, graphs = steering(controlled(), guess=True)
    found = residuals(made)
    assert [value[0].any() for value in found.values()] == [False] * len(found)
    *_, middle = found.values()
    assert (middle[1] == 10).all()
    assert graphs[0].fed[0]["encoder_hidden_states"].shape == (1, 5, 3)
    assert not any(value.any() for value in residuals(made, (UNCONDITIONAL,)).values())
    assert len(graphs[0].fed) == 1


def test_in_guess_mode_every_prompt_that_and_joins_is_asked() -> None:
    made, _ = steering(controlled(), guess=True)
    branches = (UNCONDITIONAL, CONDITIONAL, SECOND)
    *_, middle = residuals(made, branches).values()
    assert [row.mean() for row in middle] == [0, 10, 20]
    assert made.shapes(told(), branches)["sample"][0] == 2
    assert len(made.edits(branches)) == 1  # two rows of one picture


def test_each_tile_follows_its_part_of_the_picture() -> None:
    tiles = Tiles.covering((3, 5), 3, 0)
    control = SimpleNamespace(
        pixels=lambda size, resize: np.arange(24 * 40, dtype=np.float32).reshape(1, 1, 24, 40)
    )
    made, graphs = steering(controlled(condition=control), tiles=tiles)
    for tile in range(2):
        residuals(made, tile=tile, sample=np.zeros((1, 4, 3, 3)))
    first, second = (graph["controlnet_cond"] for graph in graphs[0].fed)
    assert first.shape == second.shape == (1, 1, 24, 24)
    assert (first[0, 0, 0, 0], second[0, 0, 0, 0]) == (0, 16)


def test_shapes_are_what_the_graphs_are_then_fed() -> None:
    for guess in (False, True):
        made, graphs = steering(controlled(), guess=guess)
        residuals(made)
        (feeds,) = graphs[0].fed
        rows = len(feeds["encoder_hidden_states"])
        expected = {name: (rows, *value.shape[1:]) for name, value in feeds.items() if value.ndim}
        assert made.shapes(told(), BOTH) == expected
        # Latents and picture have one row, which the graph takes for all.
        assert len(feeds["sample"]) == len(feeds["controlnet_cond"]) == 1
        (shared,) = made.edits(BOTH) or (None,)
        assert (shared is None) == guess
    assert made.residuals_of(BOTH).shapes == net().residuals(2, 3, 5)
