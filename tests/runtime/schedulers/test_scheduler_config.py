"""Reading configurations: what is heeded, what is passed over, what is refused, in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest

from pleinair.runtime.errors import SchedulerError
from pleinair.runtime.schedulers import from_config, names, unknown
from pleinair.runtime.schedulers.catalog import SOLVERS

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def refusal(config: Any, name: str | None = None, n: int | None = None, **overrides: Any) -> str:
    def attempt() -> None:
        scheduler = from_config(config, name, **overrides)
        if n is not None:
            scheduler.set_timesteps(n)

    with pytest.raises(SchedulerError) as caught:
        attempt()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reads_a_file_that_diffusers_wrote(tmp_path: Path) -> None:
    diffusers.EulerDiscreteScheduler(**SD, timestep_spacing="trailing").save_pretrained(tmp_path)
    scheduler = from_config(tmp_path / "scheduler_config.json")
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [999.0]


def test_a_live_configuration_leaves_defaults_to_the_new_class() -> None:
    """PNDM's default spacing is leading, Euler's is linspace."""
    live = diffusers.PNDMScheduler(**SD, steps_offset=1).config
    ours, theirs = from_config(live, "euler"), diffusers.EulerDiscreteScheduler.from_config(live)
    ours.set_timesteps(4)
    theirs.set_timesteps(4)
    np.testing.assert_allclose(ours.timesteps, theirs.timesteps.numpy(), rtol=1e-6)
    assert ours.timesteps[0] == 999


def test_overrides_win_over_name_and_file() -> None:
    config = {**SD, "_class_name": "DDIMScheduler", "timestep_spacing": "linspace"}
    named = from_config(config, "dpmpp_2m_karras")
    assert named.use_karras_sigmas
    assert named.timestep_spacing == "linspace"
    over = from_config(config, "dpmpp_2m_karras", use_karras_sigmas=False, solver_order=3)
    assert not over.use_karras_sigmas
    assert over.solver_order == 3


def test_a_name_settles_what_it_names() -> None:
    karras = {**SD, "_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}
    assert from_config(karras).use_karras_sigmas
    assert not from_config(karras, "euler").use_karras_sigmas


def test_options_of_other_solvers_and_bookkeeping_are_passed_over() -> None:
    config = {**SD, "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0"}
    config |= {"skip_prk_steps": True, "clip_sample": False, "predict_epsilon": True}
    assert from_config(config, "euler_a").beta_end == 0.012


def test_values_of_other_solvers_are_taken_as_diffusers_takes_them() -> None:
    assert from_config({**SD, "solver_type": "bh2"}, "dpmpp_2m").solver_type == "midpoint"
    assert from_config({**SD, "solver_type": "heun"}, "unipc").solver_type == "bh2"
    deis = {**SD, "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "deis"}
    assert from_config(deis).algorithm_type == "dpmsolver++"


REFUSED = [
    ("DDIMScheduler", {"thresholding": True}),
    ("DDPMScheduler", {"variance_type": "learned_range"}),
    ("DDPMScheduler", {"variance_type": "fixed_large_log"}),
    ("DDPMScheduler", {"beta_schedule": "sigmoid"}),
    ("LCMScheduler", {"thresholding": True}),
    ("PNDMScheduler", {"prediction_type": "sample"}),
    ("EulerAncestralDiscreteScheduler", {"prediction_type": "sample"}),
    ("EulerDiscreteScheduler", {"use_beta_sigmas": True}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "use_exponential_sigmas": True}),
    ("EulerDiscreteScheduler", {"interpolation_type": "cubic"}),
    ("HeunDiscreteScheduler", {"beta_schedule": "exp"}),
    ("LMSDiscreteScheduler", {"use_beta_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver"}),
    ("DPMSolverMultistepScheduler", {"thresholding": True}),
    ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"use_dynamic_shifting": True}),
    ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction"}),
    ("DPMSolverMultistepScheduler", {"variance_type": "learned"}),
    ("DPMSolverMultistepScheduler", {"solver_order": 4}),
    ("DPMSolverSinglestepScheduler", {"use_beta_sigmas": True}),
    ("UniPCMultistepScheduler", {"predict_x0": False}),
    ("UniPCMultistepScheduler", {"solver_p": {"_class_name": "DDIMScheduler"}}),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True}),
]


@pytest.mark.parametrize(("class_name", "options"), REFUSED)
def test_what_diffusers_heeds_and_we_do_not_is_refused(
    class_name: str, options: dict[str, Any]
) -> None:
    message = refusal({**SD, "_class_name": class_name, **options})
    assert next(iter(options)) in message


NONSENSE = [
    {"num_train_timesteps": 0},
    {"num_train_timesteps": "1000"},
    {"num_train_timesteps": 1000.5},
    {"beta_start": 0.0},
    {"beta_start": -0.1},
    {"beta_end": 1.5},
    {"beta_end": float("nan")},
    {"beta_end": "0.012"},
    {"beta_schedule": "linera"},
    {"beta_schedule": ["linear"]},
    {"trained_betas": [0.1, 0.2]},
    {"trained_betas": "0.1"},
    {"trained_betas": [0.1] * 999 + [1.0]},
    {"prediction_type": None},
    {"timestep_spacing": "karras"},
    {"steps_offset": -1},
    {"steps_offset": True},
    {"use_karras_sigmas": "yes"},
    {"sigma_min": -1.0},
    {"num_train_timesteps": 10**400},
    {"steps_offset": 10**300},
    {"beta_end": 10**400},
    {"trained_betas": [10**400]},
    {"trained_betas": [True] * 1000},
    {"_use_default_values": 5},
]


@pytest.mark.parametrize("options", NONSENSE, ids=lambda options: str(options)[:60])
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    assert name in refusal({**SD, "_class_name": "EulerDiscreteScheduler", **options})


def test_a_file_with_minus_infinity(tmp_path: Path) -> None:
    """diffusers writes it of every DPM-Solver."""
    diffusers.DPMSolverMultistepScheduler(**SD).save_pretrained(tmp_path)
    file = tmp_path / "scheduler_config.json"
    assert "-Infinity" in file.read_text()
    assert from_config(file).lambda_min_clipped == -math.inf


def test_options_that_nobody_knows_are_found() -> None:
    config = {**SD, "_class_name": "EulerDiscreteScheduler", "use_karas_sigmas": True}
    assert unknown(config) == ["use_karas_sigmas"]
    for name in dir(diffusers.schedulers):
        if name in SOLVERS:
            assert unknown(getattr(diffusers, name)().config) == []


def test_clean_samples_by_their_early_name() -> None:
    assert "predict_epsilon is false" in refusal({**SD, "predict_epsilon": False}, "ddpm")


def test_unknown_class_says_what_there_is() -> None:
    assert all(name in refusal({}) for name in names())
    by_betas = [name for name in names() if not name.startswith(("flow_", "edm_"))]
    assert all(name in refusal({"_class_name": "CosineDPMScheduler"}) for name in by_betas)


def test_unknown_name_and_option() -> None:
    assert "dpmpp_2m_karras" in refusal(SD, "dpm++")
    assert "use_karas_sigmas" in refusal(SD, "euler", use_karas_sigmas=True)
    assert "eta" in refusal(SD, "euler", eta=0.5)
    assert "eta" in refusal(SD, "ddim", eta=1.5)


def test_unreadable_files(tmp_path: Path) -> None:
    assert "missing.json" in refusal(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text('{"beta_end": ')
    assert "broken.json" in refusal(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text(json.dumps([1, 2]))
    assert "list.json" in refusal(str(tmp_path / "list.json"))


@pytest.mark.parametrize("n", [0, -1, 1001, 2.0, True, "20", None])
@pytest.mark.parametrize("name", names())
def test_step_counts_that_make_no_sense(name: str, n: Any) -> None:
    with pytest.raises(SchedulerError):
        from_config(SD, name).set_timesteps(n)


def test_step_counts_that_a_solver_cannot_do() -> None:
    assert "skip_prk_steps" in refusal(SD, "pndm", n=3)
    assert "original_inference_steps" in refusal(SD, "lcm", n=51)
    assert "steps_offset" in refusal(SD, "ddim", n=1000, steps_offset=1)
    zero_snr = {**SD, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    assert "zero_snr" in refusal(zero_snr, "ddim", n=10, clip_sample=False)
    assert "zero_snr" in refusal(zero_snr, "lcm", n=4)
    assert "lower_order_final" in refusal(SD, "unipc", n=10, lower_order_final=False)
    assert "same sigma" in refusal(SD, "dpmpp_2m", n=1000)
