"""One file of the original layout becomes what the diffusers folder of the same weights becomes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import compvis_state, tiny_stable_diffusion, values_of
from pleinair.export import architecture, weights
from pleinair.export.checkpoint import open_checkpoint
from pleinair.export.families.stable_diffusion import FAMILY
from pleinair.export.source import DiffusersFolder
from pleinair.runtime.errors import SourceError

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("single") / "tiny-clip"
    return tiny_stable_diffusion(target, clip_vocabulary=True)


@pytest.fixture(scope="module")
def state(folder: Path) -> State:
    return compvis_state(folder)


def _modules(source: Path) -> dict[str, torch.nn.Module]:
    checkpoint = open_checkpoint(source)
    modules = {}
    for name in FAMILY.submodels:
        modules[name] = architecture.build(
            FAMILY.submodels[name].cls, checkpoint.config(name), name
        )
        weights.load(modules[name], checkpoint.weights(name), name)
    return modules


def test_the_names_are_the_original_ones(folder: Path, state: State) -> None:
    """diffusers' own converter reads the file that the other tests use."""
    from diffusers.loaders import single_file_utils

    for name, convert in (
        ("unet", single_file_utils.convert_ldm_unet_checkpoint),
        ("vae", single_file_utils.convert_ldm_vae_checkpoint),
    ):
        config = json.loads((folder / name / "config.json").read_text())
        converted = convert(dict(state), config)
        original = load_file(folder / name / "diffusion_pytorch_model.safetensors")
        assert converted.keys() == original.keys()
        assert all(torch.equal(converted[key], original[key]) for key in original)


@pytest.mark.parametrize("form", ["safetensors", "half", "ckpt", "ema", "bare"])
def test_the_modules_equal_the_folders(
    folder: Path, state: State, tmp_path: Path, form: str
) -> None:
    expected = _modules(folder)
    file = tmp_path / f"tiny.{'ckpt' if form == 'ckpt' else 'safetensors'}"
    if form == "ckpt":
        torch.save({"state_dict": state, "global_step": 470_000}, file)
    elif form == "half":
        save_file({key: value.half() for key, value in state.items()}, file)
    elif form == "ema":  # training's running averages beside the weights
        names = [key for key in state if key.startswith("model.diffusion_model.")]
        ema = {"model_ema." + key[6:].replace(".", ""): state[key] * 2 for key in names}
        save_file(state | ema, file)
    elif form == "bare":  # some writers left the text encoder's second prefix out
        save_file({key.replace("text_model.", ""): value for key, value in state.items()}, file)
    else:
        save_file(state, file)
    for name, module in _modules(file).items():
        wanted, found = values_of(expected[name]), values_of(module)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert torch.equal(found[key], value.half().float() if form == "half" else value)


def test_the_architecture_is_read_from_the_shapes(
    folder: Path, state: State, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.safetensors"
    save_file(state, file)
    from_folder, from_file = open_checkpoint(folder), open_checkpoint(file)
    for name in FAMILY.submodels:
        theirs = dict(from_folder.config(name))
        ours = from_file.config(name)
        built = architecture.build(FAMILY.submodels[name].cls, ours, name).config
        built = built if name != "text_encoder" else built.to_dict()
        not_in_the_file = {"sample_size", "_diffusers_version", "transformers_version", "dtype"}
        for key, value in theirs.items():
            if key not in not_in_the_file:
                assert _plain(built[key]) == _plain(value), f"{name}: {key}"
    pndm = DiffusersFolder(folder, {}).scheduler()
    assert from_file.scheduler() | {"_diffusers_version": "0.6.0"} == pndm


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _without(prefix: str) -> Callable[[State], State]:
    return lambda state: {key: v for key, v in state.items() if not key.startswith(prefix)}


def _with(name: str) -> Callable[[State], State]:
    return lambda state: state | {name: torch.zeros(2, 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("model.diffusion_model.out.2.bias"), r"lacks .*diffusion_model\.out\.2\.bias"),
        (_without("first_stage_model.encoder.conv_in.weight"), r"first_stage_model\.encoder\.conv"),
        (  # the text encoder is transformers' own, under its own names
            _without("cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.bias"),
            r"text_encoder lacks 1 weight: \S*encoder\.layers\.1\.mlp\.fc2\.bias",
        ),
        (_without("first_stage_model."), r"has no vae .* add one with --vae FILE_OR_FOLDER"),
        (_without("cond_stage_model."), r"has no text_encoder .* with --text-encoder"),
        (_with("model.diffusion_model.extra"), r"no place in its unet .*diffusion_model\.extra"),
        (_with("aesthetic_head.weight"), r"aesthetic_head\.weight"),
        (_with("conditioner.embedders.0.x"), r"Stable Diffusion 1 for .*conditioner\.embedders"),
        (_with("cond_stage_model.model.ln_final.weight"), r"Stable Diffusion 1 for .*ln_final"),
        (_without("model.diffusion_model."), r"is a VAE, not a whole checkpoint"),
        (
            lambda state: {k: v for k, v in state.items() if k.startswith("model.diffusion_model")},
            r"is a UNet alone: it has no text_encoder and no vae; add them with --text-encoder "
            r"FILE_OR_FOLDER --vae FILE_OR_FOLDER",
        ),
        (lambda state: {"x": torch.zeros(2)}, r"has no unet"),
    ],
)
def test_what_does_not_fit_is_named(
    state: State, tmp_path: Path, change: Callable[[State], State], message: str
) -> None:
    file = tmp_path / "tiny.safetensors"
    save_file(change(state), file)
    with pytest.raises(SourceError, match=message):
        _modules(file)


def test_another_vocabulary_is_refused(state: State, tmp_path: Path) -> None:
    key = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    file = tmp_path / "tiny.safetensors"
    save_file(state | {key: state[key][:49400].clone()}, file)
    with pytest.raises(SourceError, match=r"embedding for 49400 tokens.*49408"):
        open_checkpoint(file).write_tokenizer(tmp_path / "tokenizer")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"neither a \.safetensors nor a \.ckpt"):
        open_checkpoint(tmp_path / "picture.png")
