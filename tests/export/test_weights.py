"""State dicts are read without running code and loaded strictly."""

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from checkpoints import bpe_tokenizer, tiny_text_encoder, tiny_vae, values_of
from pleinair.export import architecture, weights
from pleinair.runtime.errors import SourceError

_VAE = {"_class_name": "AutoencoderKL", "block_out_channels": [32], "norm_num_groups": 32}


def _skeleton() -> torch.nn.Module:
    return architecture.build("diffusers.AutoencoderKL", _VAE, "tiny/vae")


def _state() -> weights.State:
    shapes = {key: value.shape for key, value in _skeleton().state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def test_values_arrive(tmp_path: Path) -> None:
    state = _state()
    save_file(state, tmp_path / "diffusion_pytorch_model.safetensors")
    module = _skeleton()
    weights.load(module, weights.read_weights(weights.find_weights(tmp_path)), "tiny/vae")
    loaded = values_of(module)
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_half_precision_is_widened() -> None:
    module = _skeleton()
    weights.load(module, {key: value.half() for key, value in _state().items()}, "tiny/vae")
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}


def test_missing_weights_are_named() -> None:
    state = _state()
    del state["encoder.conv_in.bias"], state["decoder.conv_out.weight"]
    with pytest.raises(SourceError, match=r"tiny/vae lacks 2 weights: decoder\.conv_out\.weight, "):
        weights.load(_skeleton(), state, "tiny/vae")


def test_unexpected_weights_are_named() -> None:
    state = _state() | {f"extra.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(SourceError, match=r"5 weights: extra\.0, extra\.1, extra\.2 and 2 more"):
        weights.load(_skeleton(), state, "tiny/vae")


def test_a_wrong_shape_is_named() -> None:
    state = _state() | {"encoder.conv_in.bias": torch.zeros(31)}
    with pytest.raises(SourceError, match=r"encoder\.conv_in\.bias \(31,\) instead of \(32,\)"):
        weights.load(_skeleton(), state, "tiny/vae")


@pytest.mark.parametrize("prefix", ["text_model.", ""])
def test_both_spellings_of_the_text_encoder(tmp_path: Path, prefix: str) -> None:
    model = tiny_text_encoder(bpe_tokenizer(tmp_path)).eval()
    bare = {key.removeprefix("text_model."): value for key, value in model.state_dict().items()}
    state = {prefix + key: value for key, value in bare.items()}
    state[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]  # of older versions
    copy = architecture.build(
        "transformers.CLIPTextModel", model.config.to_dict(), "tiny/text_encoder"
    )
    weights.load(copy, state, "tiny/text_encoder")
    ids = torch.arange(40).reshape(2, 20)
    assert torch.equal(copy(ids).last_hidden_state, model(ids).last_hidden_state)


def test_old_names_of_the_vae_attention() -> None:
    vae = tiny_vae().eval()
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, value in vae.state_dict().items():
        for new_name, old_name in old.items():
            key = key.replace(f".{new_name}.", f".{old_name}.")
        state[key] = value
    assert any(".query." in key for key in state)
    copy = architecture.build(
        "diffusers.AutoencoderKL", dict(vae.config) | {"_class_name": "AutoencoderKL"}, "vae"
    )
    weights.load(copy, state, "vae")
    picture = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    same = copy.encode(picture).latent_dist.mean == vae.encode(picture).latent_dist.mean
    assert same.all()


def test_full_precision_and_safetensors_come_first() -> None:
    names = [
        "diffusion_pytorch_model.bin",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.safetensors",
    ]
    assert weights.choose(names, "unet") == ["diffusion_pytorch_model.safetensors"]
    assert weights.choose(names[:2], "unet") == ["diffusion_pytorch_model.fp16.safetensors"]
    assert weights.choose(names[:1], "unet") == ["diffusion_pytorch_model.bin"]
    with pytest.raises(SourceError, match="no weights in unet"):
        weights.choose(["config.json"], "unet")


@pytest.mark.parametrize(
    "pattern",
    [
        "model-0000{}-of-00002.safetensors",
        "model.fp16-0000{}-of-00002.safetensors",
        "model-0000{}-of-00002.fp16.safetensors",
        "diffusion_pytorch_model-0000{}-of-00002.bin",
    ],
)
def test_shards(tmp_path: Path, pattern: str) -> None:
    names = [pattern.format(i) for i in (1, 2)]
    assert weights.choose([*names, "model.safetensors.index.json"], "unet") == names
    with pytest.raises(SourceError, match="1 of the 2 shards"):
        weights.choose(names[:1], "unet")


def test_shards_are_merged(tmp_path: Path) -> None:
    state = _state()
    keys = sorted(state)
    for i, part in enumerate((keys[:7], keys[7:])):
        name = f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors"
        save_file({key: state[key] for key in part}, tmp_path / name)
    read = weights.read_weights(weights.find_weights(tmp_path))
    assert all(torch.equal(read[key], state[key]) for key in state)
    assert read.keys() == state.keys()


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_of_tensors(tmp_path: Path, zipped: bool) -> None:
    state = _state()
    file = tmp_path / "diffusion_pytorch_model.bin"
    torch.save({"state_dict": state, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
    read = weights.read_weights([file])
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo pwned > pwned",)


@pytest.mark.parametrize("plain", [True, False])
def test_a_pickle_that_runs_code_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "evil.ckpt"
    if plain:
        file.write_bytes(pickle.dumps({"state_dict": {}, "callback": _Evil()}, protocol=2))
    else:
        torch.save({"state_dict": {"weight": torch.zeros(1)}, "callback": _Evil()}, file)
    with pytest.raises(SourceError, match=r"evil\.ckpt.*(posix|nt)\.system"):
        weights.read_weights([file])
    assert not (tmp_path / "pwned").exists()


def test_the_class_that_stable_diffusion_1_4_mentions(tmp_path: Path) -> None:
    """sd-v1-4.ckpt has a callback's class as a dictionary key; nothing of it is needed or run."""
    module = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": module})
    file = tmp_path / "sd-v1-4.ckpt"
    fakes = {name: ModuleType(name) for name in _parents(module)}
    fakes[module].ModelCheckpoint = callback  # type: ignore[attr-defined]
    sys.modules.update(fakes)
    try:
        state = {"weight": torch.ones(2)}
        torch.save({"state_dict": state, "callbacks": {callback: {"best": 1.0}}}, file)
    finally:
        for name in fakes:
            del sys.modules[name]
    assert weights.read_weights([file])["weight"].tolist() == [1, 1]


def test_what_lightning_leaves_is_read_as_nothing(tmp_path: Path) -> None:
    """Settings, counters and enumerations of training: read by name, none of it imported."""
    names = {
        "pytorch_lightning.utilities.parsing": "AttributeDict",
        "omegaconf.dictconfig": "DictConfig",
        "lightning.fabric.strategy": "Kind",
    }
    fakes = {name: ModuleType(name) for module in names for name in _parents(module)}
    made = []
    for module, name in names.items():
        base = dict if name == "AttributeDict" else object
        cls = type(name, (base,), {"__module__": module})
        setattr(fakes[module], name, cls)
        made.append(cls)
    settings, config, kind = made[0](rate=0.1), made[1](), made[2]()
    config.content = {"target": "ldm"}
    file = tmp_path / "trained.ckpt"
    sys.modules.update(fakes)
    try:
        leavings = {"hparams": settings, "config": config, "kind": kind, "best": np.float64(3.0)}
        torch.save({"state_dict": {"weight": torch.ones(2)}, "global_step": 7, **leavings}, file)
    finally:
        for name in fakes:
            del sys.modules[name]
    state, said = weights.read_checkpoint(file)
    assert state["weight"].tolist() == [1, 1]
    assert said == {"global_step": 7}
    assert not any(name in sys.modules for name in fakes)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / "whole"
    if suffix == "bin":
        torch.save(_state(), whole)
    else:
        save_file(_state(), whole)
    file = tmp_path / f"diffusion_pytorch_model.{suffix}"
    file.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(SourceError, match=rf"diffusion_pytorch_model\.{suffix} is not a readable"):
        weights.read_weights([file])


def test_a_weight_that_layers_share_need_be_there_once() -> None:
    """T5's embedding has two names, of which files hold either or both."""
    from transformers import T5Config, T5EncoderModel

    shape = T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    model = T5EncoderModel(shape).eval()
    ids = torch.tensor([[1, 5, 3]])
    for missing in ("shared.weight", "encoder.embed_tokens.weight"):
        state = {key: v.clone() for key, v in model.state_dict().items() if key != missing}
        copy = architecture.build("transformers.T5EncoderModel", shape.to_dict(), "tiny")
        weights.load(copy, state, "tiny")
        with torch.no_grad():
            assert torch.equal(copy(ids)[0], model(ids)[0])
        assert architecture.count_parameters(copy) == architecture.count_parameters(model)
    copy = architecture.build("transformers.T5EncoderModel", shape.to_dict(), "tiny")
    without = {k: v for k, v in model.state_dict().items() if "encoder.block" in k or "norm" in k}
    with pytest.raises(SourceError, match=r"lacks 2 weights: .*shared\.weight"):
        weights.load(copy, without, "tiny")


def test_what_is_stored_as_float16_is_rounded_and_nothing_else() -> None:
    """Tables that a module keeps as buffers are constants of its graph, as weights are."""
    module = torch.nn.Module()
    for number, size in enumerate((weights.HALF_FROM, 8)):
        values = torch.linspace(0, 1, size)
        module.register_parameter(f"weight{number}", torch.nn.Parameter(values.clone()))
        module.register_buffer(f"table{number}", values.clone())
    module.register_buffer("positions", torch.arange(weights.HALF_FROM))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert weights.round_to_half(module, "here")
    for name, value in module.state_dict().items():
        is_large = name in ("weight0", "table0")
        expected = before[name].half().float() if is_large else before[name]
        assert torch.equal(value, expected), name
    assert not weights.round_to_half(module, "here"), "it is rounded already"
