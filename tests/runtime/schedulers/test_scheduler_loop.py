"""What the denoising loop may rely on, whichever the solver."""

from __future__ import annotations

import numpy as np
import pytest
from trajectory import SHAPE, model, run_ours

from pleinair.runtime.errors import SchedulerError
from pleinair.runtime.schedulers import Scheduler, from_config, names

SD = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
}


@pytest.mark.parametrize("name", names())
def test_nothing_handed_in_is_changed(name: str) -> None:
    scheduler = from_config(SD, name)
    scheduler.set_timesteps(6)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(SHAPE, np.float32)
    for t in scheduler.timesteps:
        noise, m = rng.standard_normal(SHAPE, np.float32), model(x, t)
        for array in (x, noise, m):
            array.flags.writeable = False
        shown = scheduler.scale_model_input(x, t)
        before = x.copy()
        y = scheduler.step(m, t, x, noise)
        np.testing.assert_array_equal(x, before)
        assert shown.dtype == y.dtype == np.float32
        assert y is not m
        x = y


@pytest.mark.parametrize("name", names())
def test_a_second_run_repeats_the_first(name: str) -> None:
    scheduler = from_config(SD, name)
    first = run_ours(scheduler, 7)
    np.testing.assert_array_equal(first[-1], run_ours(scheduler, 7)[-1])


@pytest.mark.parametrize("name", names())
def test_any_batch_and_shape(name: str) -> None:
    """Images of a batch do not see one another."""

    def run(x: np.ndarray) -> np.ndarray:
        scheduler = from_config(SD, name)
        scheduler.set_timesteps(5)
        for t in scheduler.timesteps:
            m = model(scheduler.scale_model_input(x, t), t)
            x = scheduler.step(m, t, x, 0.5 * x if scheduler.needs_noise(t) else None)
        return x

    batch = np.random.default_rng(1).standard_normal((3, 2, 4, 6), np.float32)
    np.testing.assert_array_equal(run(batch)[1:2], run(batch[1:2]))


@pytest.mark.parametrize("name", [name for name in names() if "_sde" in name] + ["euler_a"])
def test_missing_noise_is_an_error(name: str) -> None:
    scheduler = from_config(SD, name)
    scheduler.set_timesteps(3)
    x = np.ones(SHAPE, np.float32)
    assert all(scheduler.needs_noise(t) for t in scheduler.timesteps[:1])
    with pytest.raises(SchedulerError, match="noise"):
        scheduler.step(x, scheduler.timesteps[0], x)


@pytest.mark.parametrize("name", names())
def test_steps_outside_a_run_are_an_error(name: str) -> None:
    x = np.ones(SHAPE, np.float32)
    with pytest.raises(SchedulerError, match="set_timesteps"):
        from_config(SD, name).step(x, 500, x, x)
    scheduler = from_config(SD, name)
    scheduler.set_timesteps(5)
    with pytest.raises(SchedulerError, match="schedule"):
        scheduler.step(x, 123456, x, x)


@pytest.mark.parametrize("name", names())
def test_a_run_begins_by_its_strength(name: str) -> None:
    scheduler = from_config(SD, name)
    expected = 6 if name == "flow_euler" else 7 * scheduler.order
    assert scheduler.first_step(10, 0.35) == expected
    assert scheduler.first_step(10, 1.0) == 0


def test_no_torch_and_no_scipy_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pleinair.runtime.denoise import noise; "
        "from pleinair.runtime.schedulers import from_config, names; "
        "[from_config({}, n).set_timesteps(20) for n in names()]; "
        "noise.TorchNoise(1).normal((99,)); "
        "print({'torch', 'scipy', 'diffusers'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_the_base_is_the_type_that_callers_name() -> None:
    assert isinstance(from_config(SD, "ddim"), Scheduler)
