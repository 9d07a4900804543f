"""Parts of the way from noise to picture: every timestep is in one of two, and in one alone."""

from typing import Any

import pytest

from pleinair.runtime.denoise.span import Span
from pleinair.runtime.errors import SettingError
from pleinair.runtime.schedulers import from_config


def scheduler(name: str, steps: int) -> Any:
    made = from_config({"_class_name": name, "beta_schedule": "scaled_linear"})
    made.set_timesteps(steps)
    return made


def test_without_either_it_is_all() -> None:
    for image in (False, True):
        assert Span.of(None, None, latents=False, image=image) == Span(0.0, 1.0)
    made = scheduler("DDIMScheduler", 10)
    assert Span().timesteps(made) == range(10)


def test_a_start_or_an_end_alone() -> None:
    assert Span.of(None, 0.8, latents=False, image=False) == Span(0.0, 0.8)
    assert Span.of(0.8, None, latents=True, image=False) == Span(0.8, 1.0)


@pytest.mark.parametrize(
    ("start", "end", "has", "message"),
    [
        (None, 0.8, {"image": True}, "go with latents, not with image"),
        (0.8, None, {}, "goes on with latents that were begun; give latents"),
        (0.8, 0.8, {"latents": True}, r"denoising_start is 0\.8; give less than denoising_end"),
        (0, None, {"latents": True}, "denoising_start is 0; give more than 0 and less than 1"),
        (None, 1, {}, "denoising_end is 1; give more than 0 and less than 1"),
        (float("nan"), None, {"latents": True}, "denoising_start is nan"),
    ],
)
def test_what_is_no_span(start: Any, end: Any, has: dict[str, bool], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Span.of(start, end, **{"latents": False, "image": False, **has})


@pytest.mark.parametrize("steps", [6, 10, 25])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_two_spans_share_all_timesteps(name: str, share: float, steps: int) -> None:
    made = scheduler(name, steps)
    first, second = Span(0.0, share), Span(share, 1.0)
    taken = [*first.timesteps(made), *second.timesteps(made)]
    assert taken == list(range(steps))
    cutoff = round(1000 - share * 1000)  # diffusers' discrete_timestep_cutoff
    assert all(made.timesteps[i] >= cutoff for i in first.timesteps(made))
    assert all(made.timesteps[i] < cutoff for i in second.timesteps(made))


def test_heun_is_not_cut_between_two_looks() -> None:
    made = scheduler("HeunDiscreteScheduler", 10)
    for share in (0.3, 0.5, 0.75):
        begin = Span(share, 1.0).timesteps(made).start
        assert begin % 2 == 0  # entries are pairs, but for the last
        assert made.timesteps[begin] == made.timesteps[begin - 1]  # as the second look before it


def test_a_span_without_timesteps_is_refused() -> None:
    made = scheduler("DDIMScheduler", 4)
    with pytest.raises(SettingError, match=r"from 0\.5 to 0\.51 there is none of these 4 timest"):
        Span(0.5, 0.51).timesteps(made)
