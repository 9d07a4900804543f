"""What is said of a training, wherever it is said, reaches the scheduler and the VAE."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pleinair.export import sidecar, training
from pleinair.export.families.stable_diffusion import SCHEDULER
from pleinair.export.training import Training
from pleinair.runtime import schedulers
from pleinair.runtime.errors import SourceError

FILE = Path("model.safetensors")
UNET = {"in_channels": 4, "cross_attention_dim": 768}
EULER = SCHEDULER | {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    logging.getLogger("pleinair.export").propagate = True
    with caplog.at_level(logging.INFO, "pleinair.export"):
        yield lambda: [record.getMessage() for record in caplog.records]


def one(value: float) -> torch.Tensor:
    return torch.tensor(value)


MARKS: list[tuple[dict[str, torch.Tensor], dict[str, Any], Training]] = [
    ({}, {}, Training()),
    ({"v_pred": torch.zeros(0)}, {}, Training("v_prediction")),
    ({"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, {}, Training("v_prediction", True)),
    ({}, {"global_step": 875_000}, Training("epsilon")),
    ({"scale_factor": one(0.5)}, {}, Training(scaling_factor=0.5)),
    (
        {"edm_vpred.sigma_max": one(80.0), "edm_vpred.sigma_min": one(0.01)},
        {},
        Training("v_prediction", edm=(pytest.approx(0.01), 80.0, 1.0)),
    ),
    (
        {"edm_mean": torch.ones(1, 4, 1, 1), "edm_std": torch.full((1, 4, 1, 1), 2.0)},
        {},
        Training(
            "epsilon", edm=(0.002, 80.0, 0.5), latents=((1.0,) * 4, (2.0,) * 4), scaling_factor=0.5
        ),
    ),
]


@pytest.mark.parametrize(("state", "said", "expected"), MARKS)
def test_marks_among_the_tensors(
    state: dict[str, torch.Tensor], said: dict[str, Any], expected: Training
) -> None:
    """As ComfyUI and diffusers read them; none is left for a network to have no place for."""
    left = dict(state)
    assert training.by_marks(left, said, FILE) == expected
    assert left == {}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"edm_std": torch.ones(4)}, "lacks edm_mean"),
        ({"edm_mean": torch.ones(4), "edm_std": torch.zeros(4)}, "edm_std has to be more than 0"),
        ({"edm_mean": torch.full((4,), np.nan), "edm_std": torch.ones(4)}, "edm_mean has to hold"),
        ({"edm_vpred.sigma_max": one(-1.0)}, "sigma_max has to be more than 0"),
    ],
)
def test_marks_that_make_no_sense(state: dict[str, torch.Tensor], says: str) -> None:
    with pytest.raises(SourceError, match=says):
        training.by_marks(state, {}, FILE)


METADATA: list[tuple[dict[str, str], Training]] = [
    ({}, Training()),
    ({"modelspec.prediction_type": "v"}, Training("v_prediction")),
    ({"modelspec.prediction_type": "epsilon"}, Training("epsilon")),
    ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, Training("v_prediction")),
    ({"modelspec.architecture": "stable-diffusion-v2-512"}, Training("epsilon")),
    ({"modelspec.resolution": "768x512"}, Training(size=640)),
    ({"modelspec.resolution": "1024x1024"}, Training(size=1024)),
    ({"modelspec.title": "SDXL Turbo"}, Training(few="turbo")),
    ({"ss_v_parameterization": "True"}, Training("v_prediction")),
    ({"ss_base_model_version": "sd_v2_v"}, Training("v_prediction")),
    ({"ss_base_model_version": "sdxl_base_v1-0"}, Training()),
    ({"ss_zero_terminal_snr": "True"}, Training(zero_snr=True)),
    ({"ss_zero_terminal_snr": "None"}, Training()),
]


@pytest.mark.parametrize(("said", "expected"), METADATA)
def test_metadata_of_modelspec_and_kohya(said: dict[str, str], expected: Training) -> None:
    assert training.by_metadata(said, FILE) == expected


def test_an_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(SourceError, match="prediction_type is flow; epsilon, v_pred"):
        training.by_metadata({"modelspec.prediction_type": "flow"}, FILE)


def test_an_earlier_layer_of_clip_is_named(lines: Any) -> None:
    """ModelSpec and kohya count the last layer as 1, diffusers' clip_skip as 0."""
    said = {"modelspec.architecture": "stable-diffusion-v1", "modelspec.encoder_layer": "2"}
    training.by_metadata(said, FILE)
    assert [line.partition(": ")[2] for line in lines()] == ["paint with --clip-skip 1"]


@pytest.mark.parametrize(
    ("name", "few", "steps", "prediction"),
    [
        ("sd_xl_turbo_1.0_fp16", "turbo", None, None),
        ("sdxl_lightning_4step", "lightning", 4, None),
        ("sdxl_lightning_1step_x0", "lightning", 1, "sample"),
        ("Hyper-SDXL-8steps", "hyper", 8, None),
        ("LCM_Dreamshaper_v7_4k", "lcm", None, None),
        ("dreamshaper_8", None, None, None),
        ("turbocharged", None, None, None),
    ],
)
def test_names_of_models_of_few_steps(
    name: str, few: str | None, steps: int | None, prediction: str | None, lines: Any
) -> None:
    assert training.by_name(name, FILE) == Training(prediction, few=few, steps=steps)
    assert len(lines()) == (few is not None)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_few_steps_begin_at_the_noisy_end(prediction: str) -> None:
    config = training.scheduler(Training(few="turbo"), SCHEDULER, prediction, FILE)
    solver = schedulers.from_config(config)
    solver.set_timesteps(1)
    assert solver.timesteps.tolist() == [999.0]
    lcm = training.scheduler(Training(few="lcm"), SCHEDULER, prediction, FILE)
    solver = schedulers.from_config(lcm)
    solver.set_timesteps(1)
    assert solver.timesteps.tolist() == [999]


def test_zero_snr_begins_at_noise_alone() -> None:
    said = Training("v_prediction", zero_snr=True)
    config = training.scheduler(said, EULER, "v_prediction", FILE)
    assert config["rescale_betas_zero_snr"]
    solver = schedulers.from_config(config)
    solver.set_timesteps(4)
    assert solver.sigmas[0] == pytest.approx(4096)  # diffusers' stand-in for infinity
    with pytest.raises(SourceError, match=r"zero terminal SNR.*--prediction-type v_prediction"):
        training.scheduler(said, EULER, "epsilon", FILE)


def test_edm_has_the_solvers_that_diffusers_paints_with() -> None:
    cosxl = training.scheduler(Training(edm=(0.002, 120.0, 1.0)), EULER, "v_prediction", FILE)
    assert cosxl["_class_name"] == "EDMEulerScheduler"
    assert schedulers.from_config(cosxl).sigma_max == 120.0
    said = Training(edm=(0.002, 80.0, 0.5), latents=((0.0,), (1.0,)))
    playground = training.scheduler(said, EULER, "epsilon", FILE)
    assert playground["_class_name"] == "EDMDPMSolverMultistepScheduler"


def _table(**options: Any) -> torch.Tensor:
    solver = schedulers.from_config(SCHEDULER | options, "ddim")
    return torch.from_numpy(solver.alphas_cumprod.copy())


def test_a_table_of_noise_that_is_the_kind_s_says_nothing() -> None:
    rising = torch.linspace(0, 1, 1000)  # no table of noise
    for table in (_table(), _table().half(), rising):
        assert training.by_schedule({"alphas_cumprod": table}, SCHEDULER, FILE) == Training()


def test_a_table_of_other_noise_is_followed(lines: Any) -> None:
    zero = training.by_schedule(
        {"alphas_cumprod": _table(rescale_betas_zero_snr=True)}, SCHEDULER, FILE
    )
    assert zero == Training(zero_snr=True)
    other = _table(beta_end=0.02)
    found = training.by_schedule({"alphas_cumprod": other}, SCHEDULER, FILE)
    config = training.scheduler(found, SCHEDULER, "epsilon", FILE)
    solver = schedulers.from_config(config, "ddim")
    np.testing.assert_allclose(solver.alphas_cumprod, other.numpy(), rtol=1e-3)
    assert len(lines()) == 1
    with pytest.raises(SourceError, match="too coarse to be followed"):
        training.by_schedule({"alphas_cumprod": other.half()}, SCHEDULER, FILE)


YAML = """
model:
  base_learning_rate: 1.0e-4
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    parameterization: "v"
    linear_start: 0.0009
    linear_end: 0.0130
    timesteps: 1000
    image_size: 64
    scale_factor: 0.2
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 32 # unused
        in_channels: 4
        num_head_channels: 64
        num_heads: -1
        context_dim: 768
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder
      params: {freeze: True, layer: "penultimate"}
"""


def _beside(folder: Path, suffix: str, text: str) -> Training:
    (folder / f"model{suffix}").write_text(text)
    return sidecar.read(folder / "model.ckpt", UNET)


def test_a_config_of_compvis_beside_the_file(tmp_path: Path) -> None:
    found = _beside(tmp_path, ".yaml", YAML)
    assert found == Training(
        "v_prediction",
        betas=(0.0009, 0.013),
        timesteps=1000,
        scaling_factor=0.2,
        head_width=64,
        penultimate=True,
    )
    config = training.scheduler(found, SCHEDULER, "v_prediction", FILE)
    assert (config["beta_start"], config["beta_end"]) == (0.0009, 0.013)


def test_a_config_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "v2-inference-v.yaml").write_text(YAML)
    file, config = tmp_path / "768model.ckpt", tmp_path / "v2-inference-v.yaml"
    assert sidecar.read(file, UNET) == Training()
    assert sidecar.read(file, UNET, config).prediction_type == "v_prediction"
    with pytest.raises(SourceError, match=r"no\.yaml: no such file"):
        sidecar.read(file, UNET, tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("EpsScaling", Training("epsilon")),
        ("VScaling", Training("v_prediction")),
        ("VScalingWithEDMcNoise", Training("v_prediction", edm=(0.002, 120.0, 1.0))),
    ],
)
def test_a_config_of_generative_models(tmp_path: Path, scaling: str, expected: Training) -> None:
    target = f"sgm.modules.diffusionmodules.denoiser_scaling.{scaling}"
    config = {"denoiser_config": {"params": {"scaling_config": {"target": target}}}}
    text = json.dumps({"model": {"params": config}})
    assert _beside(tmp_path, ".yaml", text) == expected
    assert _beside(tmp_path, ".json", text) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"v_parameterization": True, "zero_terminal_snr": True}, Training("v_prediction", True)),
        ({"prediction_type": "epsilon", "activation text": "noto"}, Training("epsilon")),
        ({"description": "mine", "sd version": "SD1"}, Training()),
    ],
)
def test_notes_beside_the_file(tmp_path: Path, content: Any, expected: Training) -> None:
    assert _beside(tmp_path, ".json", json.dumps(content)) == expected


SCALING = "model: {params: {denoiser_config: {params: {scaling_config: {target: sgm.Odd}}}}}"


@pytest.mark.parametrize(
    ("suffix", "text", "says"),
    [
        (".yaml", "model: {params: {scale_factor: -1}}", "scale_factor"),
        (".yaml", "model: {params: {scale_factor: 1.0e+30}}", "scale_factor"),
        (".yaml", "model: {params: {linear_start: 0.1}}", "one of linear_start and linear_end"),
        (".yaml", "model: {params: {parameterization: flow}}", "parameterization is flow"),
        (".yaml", "model: {params: {timesteps: many}}", "timesteps"),
        (".yaml", "model: [", "no readable YAML"),
        (".yaml", "!!python/object/apply:os.system [echo]", "no readable YAML"),
        (".yaml", "[" * 20_000, "no readable YAML"),
        (".yaml", SCALING, "denoiser scaling Odd is not known"),
        (".json", "[" * 20_000, "nested too deep"),
        (".json", '{"prediction_type": 3}', "prediction_type"),
        (".json", '{"prediction_type": "flow"}', "prediction_type is flow"),
    ],
)  # fmt: skip
def test_what_cannot_be_beside_a_file(tmp_path: Path, suffix: str, text: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as refused:
        _beside(tmp_path, suffix, text)
    assert f"model{suffix}" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_config_of_another_model_is_named_and_not_followed(tmp_path: Path, lines: Any) -> None:
    assert (
        _beside(tmp_path, ".yaml", YAML.replace("in_channels: 4", "in_channels: 9")) == Training()
    )
    assert _beside(tmp_path, ".yaml", "name: mine") == Training()
    assert [line.partition(" ")[2] for line in lines()] == [
        "is of a model of another shape, and is not followed",
        "says nothing of a model (it has no `model:`), and is not followed",
    ]


def test_a_vae_that_is_asked_for_is_named(tmp_path: Path, lines: Any) -> None:
    _beside(tmp_path, ".json", json.dumps({"vae": "kl-f8.safetensors"}))
    assert "add it with --vae FILE" in lines()[0]


def test_marks_win_and_what_says_otherwise_is_named(lines: Any) -> None:
    first, second = Training("v_prediction"), Training("epsilon", size=768)
    assert first.over(second, FILE, "its metadata") == Training("v_prediction", size=768)
    assert lines() == [
        "model.safetensors: its metadata says prediction_type epsilon, and is not followed: "
        "v_prediction is what it is by other marks"
    ]
