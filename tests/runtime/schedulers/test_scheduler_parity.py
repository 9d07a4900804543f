"""Every solver walks diffusers' trajectory, over a grid of configurations.

The model is fed each side's own sample, so that errors add up as they would in a picture. For each
solver every pair of option values meets in at least one configuration of its grid.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from trajectory import error, pair, run_ours, run_theirs

from pleinair.runtime.errors import SchedulerError

STEPS = (1, 2, 5, 20, 50)
# What is asked for. Nearly all runs are below 1e-5; beyond are those that subtract large numbers
# from one another (few steps from sigma 14 or 4096 to 0), in float32 in diffusers.
TOLERANCE = 1e-4

NOISE = [
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"num_train_timesteps": 100, "trained_betas": np.linspace(1e-4, 0.2, 100).tolist()},
]
PREDICTION = [{"prediction_type": kind} for kind in ("epsilon", "v_prediction", "sample")]
SPACING = [{"timestep_spacing": kind} for kind in ("leading", "linspace", "trailing")]
OFFSET = [{"steps_offset": 0}, {"steps_offset": 1}]
ZERO_SNR = [{"rescale_betas_zero_snr": flag} for flag in (False, True)]
LADDER = [{}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}]
ENDS = [{}, {"sigma_min": 0.1, "sigma_max": 10.0}]
FINAL = [{"final_sigmas_type": kind} for kind in ("zero", "sigma_min")]
CLIP = [
    {"clip_sample": False},
    {"clip_sample": True},
    {"clip_sample": True, "clip_sample_range": 2.0},
]
LAST_ALPHA = [{"set_alpha_to_one": flag} for flag in (True, False)]
ORDER = [{"solver_order": order} for order in (1, 2, 3)]
LOWER = [{"lower_order_final": flag} for flag in (True, False)]
DPM = [
    {"algorithm_type": kind, "solver_type": rule}
    for kind in ("dpmsolver++", "sde-dpmsolver++")
    for rule in ("midpoint", "heun")
]
CLIPPED = [{}, {"lambda_min_clipped": -5.1}]
CORRECTOR = [{}, {"disable_corrector": [0, 2]}]

GRIDS: dict[str, list[list[dict[str, Any]]]] = {
    "DDIMScheduler": [NOISE, PREDICTION, SPACING, OFFSET, ZERO_SNR, CLIP, LAST_ALPHA],
    "DDPMScheduler": [
        *(NOISE, PREDICTION, SPACING, OFFSET, ZERO_SNR, CLIP),
        [{"variance_type": kind} for kind in ("fixed_small", "fixed_small_log", "fixed_large")],
    ],
    "PNDMScheduler": [
        *(NOISE, PREDICTION[:2], SPACING, OFFSET, LAST_ALPHA),
        [{"skip_prk_steps": flag} for flag in (True, False)],
    ],
    "LMSDiscreteScheduler": [NOISE, PREDICTION, SPACING, OFFSET, LADDER],
    "EulerDiscreteScheduler": [
        *(NOISE, PREDICTION, SPACING, OFFSET, ZERO_SNR, LADDER, ENDS, FINAL),
        [{"interpolation_type": kind} for kind in ("linear", "log_linear")],
        [{"timestep_type": kind} for kind in ("discrete", "continuous")],
    ],
    "EulerAncestralDiscreteScheduler": [NOISE, PREDICTION[:2], SPACING, OFFSET, ZERO_SNR],
    "HeunDiscreteScheduler": [NOISE, PREDICTION, SPACING, OFFSET, LADDER, CLIP],
    "DPMSolverMultistepScheduler": [
        *(NOISE, PREDICTION, SPACING, OFFSET, ZERO_SNR, LADDER, FINAL, ORDER, LOWER, DPM, CLIPPED),
        [{"euler_at_final": flag} for flag in (False, True)],
    ],
    "DPMSolverSinglestepScheduler": [
        *(NOISE, PREDICTION, LADDER, FINAL, ORDER, LOWER, DPM, CLIPPED),
    ],
    "UniPCMultistepScheduler": [
        *(NOISE, PREDICTION, SPACING, OFFSET, ZERO_SNR, LADDER, ENDS, FINAL, ORDER, LOWER),
        CORRECTOR,
        [{"solver_type": kind} for kind in ("bh1", "bh2")],
    ],
    "LCMScheduler": [
        *(NOISE[:3], PREDICTION, CLIP, ZERO_SNR),
        [{"original_inference_steps": steps} for steps in (50, 100)],
        [{"timestep_scaling": scale} for scale in (10.0, 3.0)],
    ],
}


def every_pair(axes: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Configurations in which each value of an axis meets each value of any other axis."""
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(range(len(axes)), 2)
        for i in range(len(axes[a]))
        for j in range(len(axes[b]))
    }
    configs = []
    while missing:
        chosen = dict(min(missing))
        for axis in range(len(axes)):
            if axis not in chosen:
                chosen[axis] = max(
                    range(len(axes[axis])),
                    key=lambda value: sum(
                        tuple(sorted([(axis, value), other])) in missing for other in chosen.items()
                    ),
                )
        missing -= set(itertools.combinations(sorted(chosen.items()), 2))
        configs.append({k: v for axis, i in chosen.items() for k, v in axes[axis][i].items()})
    return configs


CASES = [(name, config) for name, axes in GRIDS.items() for config in every_pair(axes)]


@pytest.mark.parametrize(
    ("class_name", "config"),
    CASES,
    ids=[f"{name.removesuffix('Scheduler')}-{i}" for i, (name, _) in enumerate(CASES)],
)
def test_trajectory_equals_diffusers(class_name: str, config: dict[str, Any]) -> None:
    for n in STEPS:
        theirs, ours = pair(class_name, config)
        try:
            samples = run_ours(ours, n)
        except SchedulerError:
            assert not works(theirs, n), f"refused {n} steps that diffusers can do"
            continue
        assert all(np.isfinite(x).all() for x in samples), f"{n} steps"
        with np.errstate(all="ignore"):
            expected = run_theirs(theirs, n)
        assert ours.timesteps.dtype == theirs.timesteps.numpy().dtype
        np.testing.assert_allclose(ours.timesteps, theirs.timesteps.numpy(), rtol=1e-6, atol=1e-4)
        assert ours.init_noise_sigma == pytest.approx(float(theirs.init_noise_sigma), rel=1e-6)
        if np.isfinite(expected[-1]).all():
            assert error(expected, samples) < TOLERANCE, f"{n} steps"


def works(scheduler: Any, n: int) -> bool:
    """Whether diffusers gets through a run of `n` steps without an exception or a NaN."""
    try:
        return bool(np.isfinite(run_theirs(scheduler, n)[-1]).all())
    except Exception:
        return False


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("clip_sample", [False, True])
def test_ddim_eta_equals_diffusers(eta: float, clip_sample: bool) -> None:
    theirs, ours = pair("DDIMScheduler", {**NOISE[0], "clip_sample": clip_sample}, eta=eta)
    assert error(run_theirs(theirs, 20, eta=eta), run_ours(ours, 20)) < TOLERANCE


@pytest.mark.parametrize("start", [1, 7])
@pytest.mark.parametrize("class_name", GRIDS)
def test_a_run_that_begins_part_way_equals_diffusers(class_name: str, start: int) -> None:
    # skip_prk_steps is PNDM's; without it diffusers itself cannot begin part-way.
    config = {**NOISE[0], **({"skip_prk_steps": True} if class_name == "PNDMScheduler" else {})}
    theirs, ours = pair(class_name, config)
    assert ours.order == theirs.order
    start *= ours.order
    assert error(run_theirs(theirs, 10, start=start), run_ours(ours, 10, start=start)) < TOLERANCE


def test_timesteps_that_come_twice_are_counted_as_diffusers_counts_them() -> None:
    """DPM-Solver's exponential timesteps are cut to whole numbers, so that some come twice."""
    config = {**NOISE[0], "use_exponential_sigmas": True}
    theirs, ours = pair("DPMSolverMultistepScheduler", config)
    samples, expected = run_ours(ours, 50), run_theirs(theirs, 50)
    assert len(set(ours.timesteps.tolist())) < 50
    assert error(expected, samples) < TOLERANCE


@pytest.mark.parametrize("class_name", GRIDS)
def test_add_noise_equals_diffusers(class_name: str) -> None:
    import torch

    theirs, ours = pair(class_name, NOISE[0])
    theirs.set_timesteps(20)
    ours.set_timesteps(20)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    eps = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for i in (0, 3, 11, len(ours.timesteps) - 1):
        expected = theirs.add_noise(x, eps, theirs.timesteps[i : i + 1]).numpy()
        given = ours.add_noise(x.numpy(), eps.numpy(), ours.timesteps[i])
        np.testing.assert_allclose(given, expected, rtol=2e-6, atol=1e-6)
