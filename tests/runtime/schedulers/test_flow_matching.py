"""Flow matching walks diffusers' trajectory, and stays apart from models trained by betas."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from trajectory import SHAPE, error, model, noise, walk_ours

from pleinair.export.solver import Solver
from pleinair.runtime.errors import SchedulerError
from pleinair.runtime.schedulers import from_config, names

CLASS = "FlowMatchEulerDiscreteScheduler"
SD3 = {"_class_name": CLASS, "num_train_timesteps": 1000, "shift": 3.0}
SD1 = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085}
EDM = {"_class_name": "EDMEulerScheduler", "sigma_max": 120.0}
DYNAMIC = {"use_dynamic_shifting": True}
TOLERANCE = 1e-6

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sd3": {"shift": 3.0},
    "short training": {"shift": 0.7, "num_train_timesteps": 100},
    "dynamic": DYNAMIC,
    "dynamic, shift ignored": {**DYNAMIC, "shift": 3.0},
    "dynamic, linear": {**DYNAMIC, "time_shift_type": "linear"},
    "dynamic, other ends": {
        **DYNAMIC,
        "base_shift": 0.95,
        "max_shift": 2.05,
        "base_image_seq_len": 1024,
    },
    "terminal": {"shift": 3.0, "shift_terminal": 0.1},
    "dynamic, terminal": {**DYNAMIC, "shift_terminal": 0.02},
    "karras": {"shift": 3.0, "use_karras_sigmas": True},
    "exponential": {"shift": 3.0, "use_exponential_sigmas": True},
    "dynamic, karras": {**DYNAMIC, "use_karras_sigmas": True, "shift_terminal": 0.1},
    "stochastic": {"shift": 3.0, "stochastic_sampling": True},
}


def theirs(config: dict[str, Any], n: int, tokens: int) -> Any:
    """diffusers' scheduler at the start of a run; the shift as its own pipelines work it out."""
    from diffusers.pipelines.stable_diffusion_3 import pipeline_stable_diffusion_3 as pipeline

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**config)
    options = scheduler.config
    mu = pipeline.calculate_shift(
        tokens,
        options.base_image_seq_len,
        options.max_image_seq_len,
        options.base_shift,
        options.max_shift,
    )
    scheduler.set_timesteps(n, mu=mu if options.use_dynamic_shifting else None)
    return scheduler


def walked_by_theirs(scheduler: Any, seed: int, start: int | None = None) -> list[np.ndarray]:
    generator = torch.Generator("cpu").manual_seed(seed)
    timesteps, x = scheduler.timesteps, noise(generator)
    if start is not None:
        timesteps = timesteps[start:]
        scheduler.set_begin_index(start)
        x = scheduler.scale_noise(torch.full(SHAPE, 0.25), timesteps[:1], x)
    samples = [x.numpy()]
    for t in timesteps:
        m = torch.from_numpy(model(x.numpy(), float(t)))
        x = scheduler.step(m, t, x, generator=generator).prev_sample
        samples.append(x.numpy())
    return samples


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("tokens", [64, 1024, 9216])
def test_trajectory_equals_diffusers(name: str, tokens: int) -> None:
    config = CONFIGS[name]
    for n in (2, 5, 28, 50):
        reference = theirs(config, n, tokens)
        scheduler = from_config({**config, "_class_name": CLASS})
        scheduler.set_timesteps(n, tokens)
        np.testing.assert_array_equal(scheduler.timesteps, reference.timesteps.numpy())
        np.testing.assert_array_equal(scheduler.sigmas, reference.sigmas.numpy())
        assert scheduler.timesteps.dtype == np.float32
        expected = walked_by_theirs(reference, n)
        assert error(expected, walk_ours(scheduler, n)) < TOLERANCE, f"{n} steps"


def test_one_step_goes_all_the_way() -> None:
    scheduler = from_config(SD3)
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [1000.0]
    x = np.full(SHAPE, 2.0, np.float32)
    np.testing.assert_array_equal(scheduler.step(x / 2, 1000.0, x), x / 2)


@pytest.mark.parametrize("strength", [0.02, 0.35, 0.6, 0.99, 1.0])
@pytest.mark.parametrize("name", ["sd3", "dynamic", "stochastic"])
def test_image_to_image_begins_where_diffusers_begins(name: str, strength: float) -> None:
    for n in (1, 10, 28):
        reference = theirs(CONFIGS[name], n, 1024)
        pipeline = type("Pipeline", (), {"scheduler": reference})()
        get = diffusers.StableDiffusion3Img2ImgPipeline.get_timesteps
        timesteps, left = get(pipeline, n, strength, "cpu")
        scheduler = from_config({**CONFIGS[name], "_class_name": CLASS})
        scheduler.set_timesteps(n, 1024)
        first = scheduler.first_step(n, strength)
        scheduler.set_begin_index(first)
        assert first == n - left
        np.testing.assert_array_equal(scheduler.timesteps[first:], timesteps.numpy())
        expected = walked_by_theirs(reference, n, first)
        assert error(expected, walk_ours(scheduler, n, first)) < TOLERANCE


def test_noise_is_added_as_the_run_stands() -> None:
    """Without a begin the timestep is looked up; within a run the step counts."""
    reference, scheduler = theirs({"shift": 3.0}, 10, 64), from_config(SD3)
    scheduler.set_timesteps(10)
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    eps = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    for i in (0, 3, 9):
        expected = reference.scale_noise(x, reference.timesteps[i : i + 1], eps).numpy()
        given = scheduler.add_noise(x.numpy(), eps.numpy(), scheduler.timesteps[i])
        np.testing.assert_allclose(given, expected, rtol=1e-6)


def test_the_picture_is_seen_at_every_step() -> None:
    """The straight line: with the true velocity x_0 is the same all along."""
    scheduler = from_config(SD3)
    scheduler.set_timesteps(5)
    rng = np.random.default_rng(0)
    picture, eps = (rng.standard_normal(SHAPE, np.float32) for _ in range(2))
    x = eps
    for t in scheduler.timesteps:
        seen = scheduler.pred_original_sample(eps - picture, t, x)
        np.testing.assert_allclose(seen, picture, atol=1e-5)
        x = scheduler.step(eps - picture, t, x)
    np.testing.assert_allclose(x, picture, atol=1e-5)


def test_every_option_of_diffusers_is_honoured_or_refused() -> None:
    options = inspect.signature(diffusers.FlowMatchEulerDiscreteScheduler).parameters
    solver = type(from_config(SD3))
    fields = inspect.signature(solver).parameters
    assert set(options) == set(fields) | set(solver.refuses)
    assert all(fields[name].default == options[name].default for name in fields)


def refusal(config: dict[str, Any], name: str | None = None, **options: Any) -> str:
    with pytest.raises(SchedulerError) as caught:
        from_config({**config, **options}, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"use_beta_sigmas": True},
        {"invert_sigmas": True},
        {"use_karras_sigmas": True, "use_exponential_sigmas": True},
        {"shift": 0.0},
        {"shift": "3"},
        {"time_shift_type": "quadratic"},
        {"base_image_seq_len": 4096},
        {"shift_terminal": 1.0},
        {"num_train_timesteps": 0},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    assert next(iter(options)) in refusal(SD3, **options)


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({"shift_terminal": 0.1}, 1),
        ({**DYNAMIC, "time_shift_type": "linear", "base_shift": -9.0}, 5),
        ({**DYNAMIC, "max_shift": 1e9}, 5),
    ],
    ids=str,
)
def test_a_shift_that_leaves_the_line_is_refused(options: dict[str, Any], n: int) -> None:
    with pytest.raises(SchedulerError, match="shift"):
        from_config({**SD3, **options}).set_timesteps(n, 1024)


@pytest.mark.parametrize("tokens", [None, 0])
def test_a_dynamic_shift_wants_the_size(tokens: int | None) -> None:
    with pytest.raises(SchedulerError, match="image_tokens"):
        from_config({**SD3, **DYNAMIC}).set_timesteps(4, tokens)


@pytest.mark.parametrize("name", names())
def test_solvers_keep_to_the_noise_they_know(name: str) -> None:
    """Read with the betas of an empty configuration, a flow would become rubbish, unnoticed."""
    models = {"flow": SD3, "edm": EDM}
    right = models.get(name.split("_")[0], SD1)
    for config in (SD1, SD3, EDM):
        if config is right:
            from_config(config, name)
            continue
        message = refusal(config, name)
        assert name in message
        assert message.endswith(", ".join(names(config)))
        with pytest.raises(SchedulerError, match=name):
            Solver(name).config(config)


def test_an_unknown_flow_class_says_what_can_be_used() -> None:
    unknown = {"_class_name": "FlowMatchHeunDiscreteScheduler"}
    assert names(unknown) == names(SD3) == ["flow_euler"]
    assert names(SD1) == [name for name in names() if not name.startswith(("flow_", "edm_"))]
    assert refusal(unknown).endswith("choose one of flow_euler")
    assert from_config({**unknown, "shift": 3.0}, "flow_euler").shift == 3.0
