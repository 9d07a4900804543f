"""Every solver walks diffusers' trajectory, over a grid of configurations.

The model is fed each side's own sample, so that errors add up as they would in a picture. For each
solver every pair of option values meets in at least one configuration of its grid.

The grid compares with diffusers on a torch whose square root is correctly rounded. The one in
MKL, which torch uses on x86, is off by a unit in the last place in a fifth of its results. That
shows where large numbers are subtracted from one another, or where a timestep is cut to a whole
number, and then hides our own mistakes of that size. Stable Diffusion's own configurations are
compared with diffusers as it is, further down.
"""

from __future__ import annotations

import itertools
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from trajectory import error, pair, run_ours, run_theirs, walk_ours

from pleinair.runtime.errors import SchedulerError
from pleinair.runtime.schedulers import from_config, names

STEPS = (1, 2, 5, 20, 50)
# Relative to the largest value of the sample.
TOLERANCE = 2e-5
# LMS: diffusers integrates its polynomials by quadrature in float32, we in float64. Heun: a step
# from sigma 14 to 0.03 divides by the latter the few digits that x - x_0 has left in float32.
# DEIS: diffusers finds its weights in float32, as differences of large numbers, which with the
# cosine's betas are 10,000 times as large as what is left.
LOOSER = {"LMSDiscreteScheduler": 1e-4, "HeunDiscreteScheduler": 1e-4}
LOOSER |= {"DEISMultistepScheduler": 5e-4}

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
        *(NOISE, PREDICTION, SPACING, OFFSET, ZERO_SNR, LADDER, ENDS, ORDER, CORRECTOR),
        [
            # diffusers multiplies infinity by zero in the other combinations.
            {"final_sigmas_type": "zero", "solver_type": "bh2"},
            {"final_sigmas_type": "sigma_min", "solver_type": "bh2"},
            {"final_sigmas_type": "sigma_min", "solver_type": "bh1"},
            {"final_sigmas_type": "sigma_min", "solver_type": "bh2", "lower_order_final": False},
            {"final_sigmas_type": "sigma_min", "solver_type": "bh1", "lower_order_final": False},
        ],
    ],
    "DEISMultistepScheduler": [NOISE[:2], PREDICTION, SPACING, OFFSET, LADDER, ORDER, LOWER],
    "LCMScheduler": [
        *(NOISE[:3], PREDICTION, CLIP, ZERO_SNR),
        [{"original_inference_steps": steps} for steps in (50, 100)],
        [{"timestep_scaling": scale} for scale in (10.0, 3.0)],
    ],
    "TCDScheduler": [
        *(NOISE[:3], PREDICTION, CLIP, ZERO_SNR, LAST_ALPHA),
        [{"original_inference_steps": steps} for steps in (50, 100)],
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


@pytest.fixture
def rounded_sqrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives torch the square root of IEEE 754."""

    def sqrt(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.array(np.sqrt(x.numpy())))

    def power(x: torch.Tensor, exponent: Any) -> torch.Tensor:
        return sqrt(x) if exponent == 0.5 else ordinary(x, exponent)

    ordinary = torch.Tensor.__pow__
    monkeypatch.setattr(torch, "sqrt", sqrt)
    monkeypatch.setattr(torch.Tensor, "sqrt", sqrt)
    monkeypatch.setattr(torch.Tensor, "__pow__", power)


CASES = [(name, config) for name, axes in GRIDS.items() for config in every_pair(axes)]


@pytest.mark.parametrize(
    ("class_name", "config"),
    CASES,
    ids=[f"{name.removesuffix('Scheduler')}-{i}" for i, (name, _) in enumerate(CASES)],
)
@pytest.mark.usefixtures("rounded_sqrt")
def test_trajectory_equals_diffusers(class_name: str, config: dict[str, Any]) -> None:
    for n in STEPS:
        theirs, ours = pair(class_name, config)
        expected = reference(theirs, n)
        try:
            samples = run_ours(ours, n)
        except SchedulerError:
            assert expected is None, f"refused {n} steps that diffusers can do"
            continue
        assert all(np.isfinite(x).all() for x in samples), f"{n} steps"
        assert ours.timesteps.dtype == theirs.timesteps.numpy().dtype
        np.testing.assert_allclose(ours.timesteps, theirs.timesteps.numpy(), rtol=1e-6, atol=1e-4)
        assert ours.init_noise_sigma == pytest.approx(float(theirs.init_noise_sigma), rel=1e-6)
        if expected is not None:
            assert error(expected, samples) < LOOSER.get(class_name, TOLERANCE), f"{n} steps"


def reference(scheduler: Any, n: int, eta: float = 0.0) -> list[np.ndarray] | None:
    """diffusers' samples; None where it raises or ends in NaN.

    It raises where the first timestep comes twice: it takes the second, and falls off the end.
    """
    try:
        samples = run_theirs(scheduler, n, eta)
    except (AssertionError, IndexError, ValueError):
        return None
    return samples if np.isfinite(samples[-1]).all() else None


@pytest.mark.parametrize("class_name", GRIDS)
def test_most_of_the_grid_was_compared(class_name: str) -> None:
    """Where diffusers fails there is nothing to compare with; that must not become the rule."""
    compared = [
        reference(pair(class_name, config)[0], 5) is not None
        for name, config in CASES
        if name == class_name
    ]
    assert sum(compared) > 0.6 * len(compared)


# Stable Diffusion 1, 2.1, and a model trained with zero terminal SNR, as their files have it.
MODELS = {
    "sd1": {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.6.0",
        **NOISE[0],
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    },
    "sd2-v": {
        "_class_name": "DDIMScheduler",
        **NOISE[0],
        "clip_sample": False,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
    },
    "zero-snr": {
        "_class_name": "DDIMScheduler",
        **NOISE[0],
        "clip_sample": False,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "set_alpha_to_one": False,
        "steps_offset": 1,
    },
}
SPACED = {
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
}
NAMES = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
    "pndm": ("PNDMScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
} | {
    name + suffix: (class_name, {**options, **ladder})
    for name, (class_name, options) in SPACED.items()
    for suffix, ladder in [("", {}), ("_karras", LADDER[1]), ("_exponential", LADDER[2])]
}


def test_names_are_those_tested_here() -> None:
    # test_flow_matching.py and test_edm.py have those.
    others = ["flow_euler", "edm_euler", "edm_dpmpp_2m"]
    assert names() == sorted([*NAMES, *others])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_what_diffusers_makes_of_the_models_file(name: str, model: str) -> None:
    class_name, options = NAMES[name]
    for n in (4, 20, 50):
        theirs = getattr(diffusers, class_name).from_config(MODELS[model], **options)
        ours = from_config(MODELS[model], name)
        samples = run_ours(ours, n)
        assert all(np.isfinite(x).all() for x in samples), f"{n} steps"
        # TCD's default is that of diffusers' step.
        expected = reference(theirs, n, eta=0.3 if name == "tcd" else 0.0)
        if expected is None:
            assert ours.timesteps[0] == ours.timesteps[1]
            continue
        np.testing.assert_allclose(ours.timesteps, theirs.timesteps.numpy(), rtol=1e-5, atol=1e-4)
        assert error(expected, samples) < 1e-4, f"{n} steps"


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("clip_sample", [False, True])
def test_ddim_eta_equals_diffusers(eta: float, clip_sample: bool) -> None:
    theirs, ours = pair("DDIMScheduler", {**NOISE[0], "clip_sample": clip_sample}, eta=eta)
    assert error(run_theirs(theirs, 20, eta=eta), run_ours(ours, 20)) < TOLERANCE


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("prediction", PREDICTION, ids=lambda one: one["prediction_type"])
def test_tcd_eta_equals_diffusers(eta: float, prediction: dict[str, Any]) -> None:
    """clip_sample, which diffusers' TCD has and never reads, changes nothing."""
    for n in (1, 2, 4, 8, 50):
        theirs, ours = pair("TCDScheduler", {**prediction, "clip_sample": True}, eta=eta)
        assert error(run_theirs(theirs, n, eta=eta), run_ours(ours, n)) < TOLERANCE


@pytest.mark.parametrize("timesteps", [[999, 749, 499, 249], [800], [999, 700, 1], [5, 0]])
@pytest.mark.parametrize("class_name", ["LCMScheduler", "TCDScheduler"])
def test_timesteps_as_given_are_diffusers(class_name: str, timesteps: list[int]) -> None:
    theirs, ours = pair(class_name, NOISE[0], eta=0.3)
    theirs.set_timesteps(timesteps=timesteps)
    theirs.set_timesteps = lambda n: None
    ours.take_timesteps(timesteps)
    assert ours.timesteps.dtype == np.int64
    assert error(run_theirs(theirs, 3, eta=0.3), walk_ours(ours, 3)) < TOLERANCE


@pytest.mark.parametrize("timesteps", [[], [1000], [-1], [9, 9], [1, 2]])
def test_timesteps_that_are_none_are_refused(timesteps: list[int]) -> None:
    with pytest.raises(SchedulerError, match=r"timesteps are|0 inference steps"):
        from_config(NOISE[0], "lcm").take_timesteps(timesteps)


def test_other_solvers_make_their_timesteps_themselves() -> None:
    with pytest.raises(SchedulerError, match="DDIM makes its timesteps itself; lcm and tcd"):
        from_config(NOISE[0], "ddim").take_timesteps([999, 1])


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
    theirs, ours = pair(class_name, NOISE[0])
    theirs.set_timesteps(20)
    ours.set_timesteps(20)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    eps = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for i in (0, 3, 11, len(ours.timesteps) - 1):
        expected = theirs.add_noise(x, eps, theirs.timesteps[i : i + 1]).numpy()
        given = ours.add_noise(x.numpy(), eps.numpy(), ours.timesteps[i])
        np.testing.assert_allclose(given, expected, rtol=2e-6, atol=1e-6)


def test_a_timestep_that_comes_twice_is_the_second_as_in_diffusers() -> None:
    """Unless the run was told where to begin: then its own count decides."""
    theirs, ours = pair("DPMSolverMultistepScheduler", {**NOISE[0], "use_exponential_sigmas": True})
    theirs.set_timesteps(50)
    ours.set_timesteps(50)
    twice = int(np.flatnonzero(np.diff(ours.timesteps) == 0)[0])
    x, eps = torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 8, 8)

    def level() -> float:
        t = theirs.timesteps[twice : twice + 1]
        expected = theirs.add_noise(x, eps, t).numpy()
        given = ours.add_noise(x.numpy(), eps.numpy(), ours.timesteps[twice])
        np.testing.assert_allclose(given, expected, rtol=2e-6)
        return float(given[0, 0, 0, 0])

    searched = level()
    theirs.set_begin_index(twice)
    ours.set_begin_index(twice)
    assert level() > searched
