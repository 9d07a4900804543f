"""LoRA files merged at export: the same weights as diffusers' when it fuses them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loras
from pleinair.runtime.adapters import lora
from pleinair.runtime.errors import AdapterError

torch = pytest.importorskip("torch")

from pleinair.export import lora as merging  # noqa: E402


@pytest.fixture
def pipe(tiny_checkpoint: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(tiny_checkpoint, safety_checker=None)


def modules(pipe: Any) -> dict[str, Any]:
    return {"text_encoder": pipe.text_encoder, "unet": pipe.unet, "vae": pipe.vae}


def test_merged_weights_are_those_of_diffusers_fused(
    pipe: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    encoder = pipe.text_encoder
    first = loras.kohya(
        tmp_path / "a.safetensors",
        loras.factors(pipe.unet, 1),
        loras.factors(encoder, 2),
    )
    second = loras.diffusers(tmp_path / "b.safetensors", loras.factors(pipe.unet, 3))
    fused = StableDiffusionPipeline.from_pretrained(tiny_checkpoint, safety_checker=None)
    fused.load_lora_weights(first, adapter_name="a")
    fused.load_lora_weights(second, adapter_name="b")
    fused.set_adapters(["a", "b"], [0.8, -0.5])
    fused.fuse_lora(adapter_names=["a", "b"])
    fused.unload_lora_weights()

    files = [lora.read(first, 0.8), lora.read(second, -0.5)]
    with torch.device("meta"):
        skeletons = {name: type(m)(m.config) for name, m in modules(pipe).items() if name[0] == "t"}
    skeletons |= {name: m for name, m in modules(pipe).items() if name not in skeletons}
    plan = merging.planned(files, skeletons)
    assert plan.keys() == {"text_encoder", "unet"}
    for name, module in modules(pipe).items():
        before = {key: value.clone() for key, value in module.state_dict().items()}
        merging.merge(module, plan.get(name, {}))
        right = modules(fused)[name].state_dict()
        assert module.state_dict().keys() == right.keys()
        for key, value in module.state_dict().items():
            torch.testing.assert_close(value, right[key], rtol=1e-5, atol=1e-6)
        changed = [key for key in before if not torch.equal(before[key], module.state_dict()[key])]
        assert len(changed) == len(plan.get(name, {}))


def test_a_file_for_another_model_is_refused_before_any_work(pipe: Any, tmp_path: Path) -> None:
    pair = {"lora_down.weight": np.ones((1, 768), "f4"), "lora_up.weight": np.ones((32, 1), "f4")}
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    file = loras.save(tmp_path / "sd1.safetensors", {f"{name}.{k}": v for k, v in pair.items()})
    with pytest.raises(AdapterError, match=r"sd1\.safetensors: it is for Stable Diffusion 1"):
        merging.planned([lora.read(file)], modules(pipe))


def test_the_record_names_no_folder(tmp_path: Path) -> None:
    name = "lora_unet_conv_in"
    tensors = {
        f"{name}.lora_down.weight": np.ones((1, 2)),
        f"{name}.lora_up.weight": np.ones((2, 1)),
    }
    file = loras.save(tmp_path / "mine.safetensors", tensors)
    (entry,) = merging.record([lora.read(file, 0.8)])
    assert entry["name"] == "mine.safetensors"
    assert entry["weight"] == 0.8
    assert len(str(entry["sha256"])) == 64


def test_biases_and_norms_are_merged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A layer without a bias is given one; words that come with the file are named."""
    module = torch.nn.ModuleDict({"proj_in": torch.nn.Linear(4, 3, bias=False)})
    module["norm"] = torch.nn.LayerNorm(3)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    random = np.random.default_rng(0)
    added = {
        "lora_unet_proj_in.diff_b": random.normal(size=3).astype("f4"),
        "lora_unet_norm.w_norm": random.normal(size=3).astype("f4"),
        "lora_unet_norm.b_norm": random.normal(size=3).astype("f4"),
        "bundle_emb.sks.emb_params": np.ones((1, 8), "f4"),
    }
    file = lora.read(loras.save(tmp_path / "n.safetensors", added), 0.5)
    merging.merge(module, merging.planned([file], {"unet": module})["unet"])
    before |= {"proj_in.bias": torch.zeros(3)}
    keys = {
        "proj_in.weight": None,
        "proj_in.bias": "lora_unet_proj_in.diff_b",
        "norm.weight": "lora_unet_norm.w_norm",
        "norm.bias": "lora_unet_norm.b_norm",
    }
    assert module.state_dict().keys() == keys.keys()
    for name, key in keys.items():
        right = before[name] + 0.5 * (torch.from_numpy(added[key]) if key else 0)
        torch.testing.assert_close(module.state_dict()[name], right)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "n.safetensors" in line
    assert "sks" in line
