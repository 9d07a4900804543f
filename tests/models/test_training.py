"""The training code's small parts, each against its definition."""

from random import Random

import pytest
import torch

from pleinair.models.pocket.training import captions
from pleinair.models.pocket.training.clock import Clock
from pleinair.models.pocket.training.diffusion import min_snr_loss, spread_timesteps
from pleinair.models.pocket.training.loop import learning_rate


def test_captions_say_what_they_are_given() -> None:
    words = {
        captions.caption(Random(seed), "red apple", "noto", "light blue") for seed in range(50)
    }
    assert words == {
        f"{noun}, noto style, on a light blue background"
        for noun in ("red apple", "a red apple", "apple", "an apple")
    }
    assert captions.caption(Random(0), "owl", None, None) in {"owl", "an owl"}


def test_every_subject_is_told_from_the_others() -> None:
    names = [name for name, facts in captions.SUBJECTS.items() for name in (name, *facts["also"])]
    assert len(names) == len(set(names))
    assert len(captions.SUBJECTS) >= 60


def test_timesteps_cover_the_schedule_evenly() -> None:
    steps = spread_timesteps(100)
    assert torch.equal(steps // 10, torch.arange(100))


def test_min_snr_weighs_clear_pictures_less() -> None:
    """Hang et al. 2023: min(SNR, 5) / SNR for epsilon prediction."""
    error = torch.ones(1, 4, 2, 2)
    nothing = torch.zeros_like(error)
    for snr, weight in ((100.0, 0.05), (5.0, 1.0), (0.1, 1.0)):
        alphas_cumprod = torch.tensor([snr / (1 + snr)])
        assert min_snr_loss(error, nothing, alphas_cumprod).item() == pytest.approx(
            weight, rel=1e-3
        )


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate(1.0, share / 10, 1000) for share in range(11)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.05
    assert learning_rate(1.0, 0.0, 0) < 0.05


def test_a_pause_does_not_eat_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(minutes=1.0)
    for pause in (1, 1, 1, 600, 1):
        now[0] += pause
        clock.tick()
    assert clock.spent < 15
