"""EDM's solvers walk diffusers' trajectories."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
from trajectory import SHAPE, error, run_ours, run_theirs

from pleinair.runtime.errors import SchedulerError
from pleinair.runtime.schedulers import from_config, names

EULER, DPM = "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"
# As published beside them.
COSXL = {
    "prediction_type": "v_prediction",
    "sigma_data": 1.0,
    "sigma_max": 120.0,
    "sigma_schedule": "exponential",
}
PLAYGROUND = {"solver_order": 2, "thresholding": False, "dynamic_thresholding_ratio": 0.995}
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    (EULER, {}),
    (EULER, COSXL),
    (EULER, {"rho": 5.0, "sigma_min": 0.01}),
    (DPM, PLAYGROUND),
    (DPM, COSXL),
    (DPM, {"solver_order": 1, "prediction_type": "v_prediction"}),
    (DPM, {"solver_order": 3, "lower_order_final": False}),
    (DPM, {"solver_order": 3, "final_sigmas_type": "sigma_min", "solver_type": "heun"}),
    (DPM, {"solver_type": "heun", "euler_at_final": True, "final_sigmas_type": "sigma_min"}),
    (DPM, {"algorithm_type": "sde-dpmsolver++"}),
    (DPM, {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
]


@pytest.mark.parametrize("start", [None, 1, 7])
@pytest.mark.parametrize(("class_name", "config"), CONFIGS)
def test_trajectory_equals_diffusers(
    class_name: str, config: dict[str, Any], start: int | None
) -> None:
    for n in (10, 20, 50) if start else (2, 5, 20, 50):
        theirs = getattr(diffusers, class_name)(**config)
        ours = from_config({**config, "_class_name": class_name})
        expected, samples = run_theirs(theirs, n, start=start), run_ours(ours, n, start=start)
        np.testing.assert_allclose(ours.timesteps, theirs.timesteps.numpy(), atol=2e-5)
        assert ours.init_noise_sigma == pytest.approx(theirs.init_noise_sigma)
        # As Heun's in test_scheduler_parity: two steps divide what float32 has left at sigma_max.
        assert error(expected, samples) < (1e-4 if n == 2 else 2e-5), f"{n} steps"


@pytest.mark.parametrize("config", [{}, COSXL])
def test_one_step_begins_at_the_noisy_end(config: dict[str, Any]) -> None:
    scheduler = from_config({**config, "_class_name": EULER})
    scheduler.set_timesteps(1)
    assert scheduler.sigmas[0] == pytest.approx(config.get("sigma_max", 80.0))


def test_what_is_seen_of_x_0_on_the_way() -> None:
    theirs, ours = (
        diffusers.EDMEulerScheduler(**COSXL),
        from_config({**COSXL, "_class_name": EULER}),
    )
    theirs.set_timesteps(8)
    ours.set_timesteps(8)
    x, t = np.full(SHAPE, 0.5, np.float32), ours.timesteps[0]
    expected = theirs.precondition_outputs(0.5, 0.25, float(theirs.sigmas[0]))
    np.testing.assert_allclose(ours.pred_original_sample(x / 2, t, x), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "option",
    [{"sigma_schedule": "beta"}, {"prediction_type": "sample"}, {"rho": 0}, {"sigma_min": 90.0}],
)
def test_nonsense_is_refused(option: dict[str, Any]) -> None:
    (name,) = option
    with pytest.raises(SchedulerError, match=name):
        from_config({**option, "_class_name": EULER})


def test_edm_s_solvers_are_named() -> None:
    config = {"_class_name": DPM}
    assert names(config) == ["edm_dpmpp_2m", "edm_euler"]
    assert from_config(config, "edm_euler").sigma_max == 80.0
