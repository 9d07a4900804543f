"""LoRA files put on an exported model without torch, against diffusers and PEFT."""

import functools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loras
from loras import run
from pleinair.runtime.adapters import fitting, lora, model
from pleinair.runtime.adapters.compvis import Nesting
from pleinair.runtime.errors import AdapterError
from pleinair.runtime.graphs.changes import Changes, Held, changed
from pleinair.runtime.graphs.weights import ChangedWeights

torch = pytest.importorskip("torch")

ENGINES = ("openvino", "onnxruntime")
# What the attention of CLIP and of the UNet, and the ResNets' convolutions are called.
TARGETS = r".*(to_q|to_v|to_out\.0|proj_in|ff\.net\.2|conv1|conv_shortcut|time_emb_proj)"
CLIP_TARGETS = ["q_proj", "v_proj", "out_proj", "fc1"]

Folders = Mapping[str, Path]


@pytest.fixture(scope="module")
def exported(exported_openvino: Path, exported_onnx: Path) -> Folders:
    return {"openvino": exported_openvino, "onnxruntime": exported_onnx}


@pytest.fixture(scope="module")
def fresh(tiny_checkpoint: Path) -> Callable[[], Any]:
    """diffusers' pipeline, without what others put into it."""
    from diffusers import StableDiffusionPipeline

    return lambda: StableDiffusionPipeline.from_pretrained(tiny_checkpoint, safety_checker=None)


@pytest.fixture(scope="module")
def weights(fresh: Callable[[], Any]) -> tuple[loras.Weights, loras.Weights]:
    pipe = fresh()
    return loras.factors(pipe.unet, 1), loras.factors(pipe.text_encoder, 2)


def graphs(folder: Path) -> dict[str, Path]:
    return {
        part: next(file for file in (folder / part).iterdir() if file.suffix in {".xml", ".onnx"})
        for part in ("text_encoder", "unet")
    }


def planned(folder: Path, *files: lora.Lora) -> dict[str, Changes]:
    return model.changes(graphs(folder), files)


def unet_feeds() -> dict[str, Any]:
    random = np.random.default_rng(3)
    return {
        "sample": random.normal(size=(2, 4, 8, 8)).astype(np.float32),
        "timestep": np.array([501, 501]),
        "encoder_hidden_states": random.normal(size=(2, 7, 128)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def plain(exported: Folders) -> Callable[[str], np.ndarray]:
    """What the UNet gives by an engine, unchanged."""

    @functools.cache
    def output(engine: str) -> np.ndarray:
        return run(engine, graphs(exported[engine])["unet"], {}, unet_feeds())

    return output


IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6, 603]])


def unet_of(unet: Any) -> np.ndarray:
    feeds = {name: torch.from_numpy(value) for name, value in unet_feeds().items()}
    with torch.no_grad():
        return unet(**feeds, return_dict=False)[0].numpy()


def text_of(encoder: Any) -> np.ndarray:
    with torch.no_grad():
        return encoder(torch.from_numpy(IDS))[0].numpy()


def distance(found: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(found - right).max() / np.abs(right).max())


def peft_file(folder: Path, fresh: Callable[[], Any]) -> Path:
    """By PEFT and diffusers themselves: ranks and alphas that differ, told in the metadata."""
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    torch.manual_seed(5)
    pipe = fresh()
    # A layer's own rank and alpha, as trainers set them for convolutions.
    patterns: dict[str, Any] = {"rank_pattern": {"proj_in": 2}, "alpha_pattern": {"proj_in": 7}}
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=TARGETS, init_lora_weights=False, **patterns
    )
    encoder_config = LoraConfig(
        r=2, lora_alpha=3, target_modules=CLIP_TARGETS, init_lora_weights=False
    )
    pipe.unet.add_adapter(config)
    pipe.text_encoder.add_adapter(encoder_config)
    StableDiffusionPipeline.save_lora_weights(
        folder,
        get_peft_model_state_dict(pipe.unet),
        get_peft_model_state_dict(pipe.text_encoder),
        weight_name="peft.safetensors",
        unet_lora_adapter_metadata={
            "r": 3,
            "lora_alpha": 5,
            "target_modules": TARGETS,
            "init_lora_weights": True,
            **patterns,
        },
        text_encoder_lora_adapter_metadata={
            "r": 2,
            "lora_alpha": 3,
            "target_modules": CLIP_TARGETS,
        },
    )
    return folder / "peft.safetensors"


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory,
    fresh: Callable[[], Any],
    weights: tuple[loras.Weights, loras.Weights],
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("loras")
    return {
        "kohya": loras.kohya(folder / "kohya.safetensors", *weights),
        "diffusers": loras.diffusers(folder / "diffusers.safetensors", *weights),
        "processors": loras.processors(folder / "processors.safetensors", *weights),
        "peft": peft_file(folder, fresh),
    }


@pytest.fixture(scope="module")
def reference(
    files: dict[str, Path], fresh: Callable[[], Any]
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """What diffusers' UNet and text encoder give with these files fused at these weights."""
    made: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

    def fused(**given: float) -> tuple[np.ndarray, np.ndarray]:
        key = tuple(sorted(given.items()))
        if key not in made:
            pipe = fresh()
            for name in given:
                pipe.load_lora_weights(files[name], adapter_name=name)
            pipe.set_adapters(list(given), list(given.values()))
            pipe.fuse_lora(adapter_names=list(given))
            made[key] = unet_of(pipe.unet), text_of(pipe.text_encoder)
        return made[key]

    return fused


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "given",
    [
        {"kohya": 0.8},
        {"diffusers": 1.0},
        {"processors": 0.7},
        {"peft": 0.6},
        {"kohya": 0.8, "peft": -0.5},
    ],
    ids=lambda given: "+".join(given),
)
def test_outputs_are_those_of_diffusers_fused(
    given: dict[str, float],
    engine: str,
    exported: Folders,
    files: dict[str, Path],
    reference: Callable[..., tuple[np.ndarray, np.ndarray]],
    plain: Callable[[str], np.ndarray],
) -> None:
    read = [lora.opened(f"{files[name]}:{weight}") for name, weight in given.items()]
    changes = planned(exported[engine], *read)
    paths = graphs(exported[engine])
    unet, text = reference(**given)

    assert distance(plain(engine), unet) > 1e-2, (
        "the files change nothing, so the test could not fail"
    )
    assert distance(run(engine, paths["unet"], changes["unet"], unet_feeds()), unet) < 1e-4
    ids = {"input_ids": IDS}
    found = run(engine, paths["text_encoder"], changes["text_encoder"], ids)
    assert distance(found, text) < 1e-4


def test_every_layer_keeps_its_own_rank_and_alpha(fresh: Callable[[], Any], tmp_path: Path) -> None:
    """W + weight * alpha / rank * up down, which diffusers does for one common alpha alone."""
    unet = fresh().unet
    weights = loras.factors(unet, 4, alphas=(1, 5, 0.5))
    shapes = {k: tuple(v.shape) for k, v in unet.state_dict().items() if k.endswith(".weight")}
    read = lora.read(loras.kohya(tmp_path / "x.safetensors", weights), -0.7)
    changes = fitting.changes([read], {"unet": shapes})["unet"]
    layers = {key.rsplit(".", 1)[0] for key in weights}
    assert changes.keys() == {f"{layer}.weight" for layer in layers}
    for layer in layers:
        down, up = (torch.from_numpy(weights[f"{layer}.{role}"]) for role in ("down", "up"))
        base = unet.state_dict()[f"{layer}.weight"]
        scale = -0.7 * float(weights[f"{layer}.alpha"]) / len(down)
        right = base + scale * torch.einsum("or,r...->o...", up.flatten(1), down)
        found = changes[f"{layer}.weight"](base.numpy())
        torch.testing.assert_close(torch.from_numpy(found), right, rtol=1e-5, atol=1e-6)


def lycoris_config(kind: str) -> Any:
    from peft import LoHaConfig, LoKrConfig

    convolutions: dict[str, Any] = {"target_modules": TARGETS, "init_weights": False}
    return {
        "loha": LoHaConfig(r=3, alpha=2, **convolutions),
        "loha_tucker": LoHaConfig(r=3, alpha=2, use_effective_conv2d=True, **convolutions),
        "lokr": LoKrConfig(r=2, alpha=3, **convolutions),
        "lokr_both": LoKrConfig(r=2, alpha=3, decompose_both=True, **convolutions),
        "lokr_tucker": LoKrConfig(r=2, alpha=3, use_effective_conv2d=True, **convolutions),
        # Above its full rank LoKr keeps whole matrices, which do not tell the rank.
        "lokr_whole": LoKrConfig(r=64, alpha=32, **convolutions),
    }[kind]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "kind", ["loha", "loha_tucker", "lokr", "lokr_both", "lokr_tucker", "lokr_whole"]
)
def test_lycoris_kinds_are_those_of_peft(
    kind: str,
    engine: str,
    exported: Folders,
    fresh: Callable[[], Any],
    plain: Callable[[str], np.ndarray],
    tmp_path: Path,
) -> None:
    """A folder that PEFT saves, and LyCORIS' names for the same factors."""
    from peft import get_peft_model

    torch.manual_seed(7)
    config = lycoris_config(kind)
    wrapped = get_peft_model(fresh().unet, config)
    for name, parameter in wrapped.named_parameters():
        if "hada_" in name or "lokr_" in name:  # PEFT's own start is too faint to be seen
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(tmp_path)
    saved = tmp_path / "adapter_model.safetensors"
    right = unet_of(wrapped)

    found = [saved] if kind == "lokr_whole" else [saved, lycoris_file(saved, config.alpha)]
    path = graphs(exported[engine])["unet"]
    assert distance(plain(engine), right) > 1e-2
    for file in found:
        changes = planned(exported[engine], lora.read(file))
        assert distance(run(engine, path, changes["unet"], unet_feeds()), right) < 1e-4


def lycoris_file(saved: Path, alpha: float) -> Path:
    from safetensors.numpy import load_file

    tensors = {}
    for key, value in load_file(saved).items():
        layer, role = key.removeprefix("base_model.model.").rsplit(".", 1)
        name = f"lora_unet_{layer.replace('.', '_')}"
        tensors |= {f"{name}.{role}": value, f"{name}.alpha": np.float32(alpha)}
    return loras.save(saved.with_name("lycoris.safetensors"), tensors)


def lycoris_full(folder: Path, unet: Any, encoder: Any) -> Path:
    """Biases, norms and whole differences of every kind of layer, put into the modules, too."""
    torch.manual_seed(11)
    tensors: dict[str, Any] = {}
    chosen = r"(to_q|to_out\.0|proj_in|conv1|conv_out|time_emb_proj|q_proj|fc2|norm\w*)$"
    for module, prefix in ((unet, "lora_unet_"), (encoder, "lora_te_text_model_")):
        for name, layer in module.named_modules():
            if not re.search(chosen, name):
                continue
            key = prefix + name.removeprefix("text_model.").replace(".", "_")
            norm = "Norm" in type(layer).__name__
            bias = torch.randn(len(layer.weight)) * 0.3
            tensors[f"{key}.{'b_norm' if norm else 'diff_b'}"] = bias
            diff = torch.randn_like(layer.weight) * 0.2
            tensors[f"{key}.{'w_norm' if norm else 'diff'}"] = diff
            old = torch.zeros_like(bias) if layer.bias is None else layer.bias.data
            layer.weight = torch.nn.Parameter(layer.weight.data + 0.6 * diff)
            layer.bias = torch.nn.Parameter(old + 0.6 * bias)
    return loras.save(folder / "full.safetensors", {k: v.numpy() for k, v in tensors.items()})


@pytest.mark.parametrize("engine", ENGINES)
def test_biases_and_norms_of_every_layer(
    engine: str,
    exported: Folders,
    fresh: Callable[[], Any],
    plain: Callable[[str], np.ndarray],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Layers without a bias get one; a norm that is called several times changes everywhere."""
    pipe = fresh()
    file = lycoris_full(tmp_path, pipe.unet, pipe.text_encoder)
    changes = planned(exported[engine], lora.read(file, 0.6))
    assert not caplog.records
    paths, unet = graphs(exported[engine]), unet_of(pipe.unet)
    assert distance(plain(engine), unet) > 1e-2
    assert distance(run(engine, paths["unet"], changes["unet"], unet_feeds()), unet) < 1e-4
    ids = {"input_ids": IDS}
    found = run(engine, paths["text_encoder"], changes["text_encoder"], ids)
    assert distance(found, text_of(pipe.text_encoder)) < 1e-4


@pytest.mark.parametrize("kind", ["dora", "lora_bias"])
def test_dora_and_biases_of_peft(
    kind: str, exported: Folders, fresh: Callable[[], Any], tmp_path: Path
) -> None:
    """As PEFT itself saves and computes them."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(7)
    options: dict[str, Any] = {"use_dora": True} if kind == "dora" else {"lora_bias": True}
    targets = TARGETS if kind == "dora" else r".*(proj_in|conv1|time_emb_proj)"
    config = LoraConfig(r=3, lora_alpha=5, target_modules=targets, **options)
    wrapped = get_peft_model(fresh().unet, config)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data += torch.rand_like(parameter) * 0.2
    wrapped.save_pretrained(tmp_path)
    right = unet_of(wrapped)
    changes = planned(exported["openvino"], lora.read(tmp_path / "adapter_model.safetensors"))
    path = graphs(exported["openvino"])["unet"]
    assert distance(run("openvino", path, {}, unet_feeds()), right) > 1e-2
    assert distance(run("openvino", path, changes["unet"], unet_feeds()), right) < 1e-4


def test_tucker_core_is_three_convolutions(tmp_path: Path) -> None:
    """kohya's lora_mid: down 1x1, the core 3x3, up 1x1, applied one after the other."""
    random = np.random.default_rng(0)
    shapes = {"lora_down": (3, 5, 1, 1), "lora_mid": (3, 3, 3, 3), "lora_up": (6, 3, 1, 1)}
    parts = {name: random.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    name = "lora_unet_conv_in"
    tensors = {f"{name}.{part}.weight": value for part, value in parts.items()}
    file = loras.save(tmp_path / "tucker.safetensors", tensors | {f"{name}.alpha": np.float32(1.5)})
    changes = fitting.changes([lora.read(file)], {"unet": {"conv_in.weight": (6, 5, 3, 3)}})
    base = random.normal(size=(6, 5, 3, 3)).astype("f4")
    merged = changes["unet"]["conv_in.weight"](base)

    picture = torch.from_numpy(random.normal(size=(1, 5, 9, 9)).astype("f4"))
    conv = torch.nn.functional.conv2d
    down, mid, up = (torch.from_numpy(parts[part]) for part in shapes)
    right = conv(picture, torch.from_numpy(base)) + 0.5 * conv(conv(conv(picture, down), mid), up)
    torch.testing.assert_close(conv(picture, torch.from_numpy(merged)), right, rtol=1e-4, atol=1e-4)


def test_compvis_names_are_those_of_the_exporter(tiny_checkpoint: Path) -> None:
    """kohya trains SDXL under CompVis's names; diffusers checks the exporter's table of them."""
    from safetensors.numpy import load_file

    from pleinair.export.compvis import unet_key

    config = json.loads((tiny_checkpoint / "unet" / "config.json").read_text(encoding="utf-8"))
    keys = load_file(tiny_checkpoint / "unet" / "diffusion_pytorch_model.safetensors")
    names = {key.removesuffix(".weight") for key in keys if re.search(r"(?<!norm\d)\.weight$", key)}
    names -= {name for name in names if re.search(r"norm(_out)?$", name) and ".res" not in name}
    assert len(names) > 100
    nesting = Nesting.of(names)
    assert {name: nesting.compvis_layer(name) for name in names} == {
        name: unet_key(f"{name}.weight", config).removesuffix(".weight") for name in names
    }


def test_a_file_under_compvis_names_is_the_same_file(tmp_path: Path) -> None:
    pair = {"lora_down.weight": np.ones((1, 4), "f4"), "lora_up.weight": np.ones((8, 1), "f4")}
    shapes = {
        "down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3),
        "down_blocks.0.resnets.1.conv1.weight": (8, 8, 3, 3),
        "down_blocks.1.attentions.0.transformer_blocks.3.attn2.to_k.weight": (8, 4),
    }
    name = "lora_unet_input_blocks_4_1_transformer_blocks_3_attn2_to_k"  # as in SDXL's files
    file = loras.save(tmp_path / "x.safetensors", {f"{name}.{k}": v for k, v in pair.items()})
    assert list(fitting.changes([lora.read(file)], {"unet": shapes})["unet"]) == [list(shapes)[2]]


@pytest.mark.parametrize("engine", ENGINES)
def test_half_precision_stays_half(engine: str, tmp_path: Path) -> None:
    """The sum is taken in float32 and rounded once; the graph keeps its float16 weight."""
    random = np.random.default_rng(0)
    stored = random.normal(size=(64, 64)).astype(np.float16)
    delta = random.normal(0, 1e-3, size=(64, 64)).astype(np.float32)
    changes = {"proj_in.weight": lambda weight: weight + delta}
    right = (stored.astype(np.float32) + delta).astype(np.float16).astype(np.float32)
    file = half_openvino(tmp_path, stored) if engine == "openvino" else half_onnx(tmp_path, stored)
    feeds = {"x": np.eye(64, dtype=np.float32)}
    np.testing.assert_array_equal(run(engine, file, {}, feeds).T, stored.astype(np.float32))
    np.testing.assert_array_equal(run(engine, file, changes, feeds).T, right)


def half_openvino(folder: Path, weight: np.ndarray) -> Path:
    import openvino
    from openvino import opset13 as opset

    x = opset.parameter([-1, 64], np.float32, name="x")
    constant = opset.constant(weight)
    constant.friendly_name = "self.model.proj_in.weight_compressed"
    product = opset.matmul(x, opset.convert(constant, "f32"), False, True)
    x.output(0).get_tensor().set_names({"x"})
    openvino.save_model(openvino.Model([product], [x]), folder / "half.xml", compress_to_fp16=False)
    return folder / "half.xml"


def half_onnx(folder: Path, weight: np.ndarray) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    cast = helper.make_node("Cast", ["onnx::MatMul_7.float16"], ["w"], to=TensorProto.FLOAT)
    product = helper.make_node("MatMul", ["x", "w"], ["y"], "/model/proj_in/MatMul")
    ends = [value(name, TensorProto.FLOAT, [None, 64]) for name in "xy"]
    held = numpy_helper.from_array(np.ascontiguousarray(weight.T), "onnx::MatMul_7.float16")
    graph = helper.make_graph([cast, product], "g", ends[:1], ends[1:], [held])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    # External data, as large models have them, for which a model's folder must be known.
    onnx.save_model(
        made, folder / "half.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    return folder / "half.onnx"


def test_openvino_caches_each_combination_apart(
    exported_openvino: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """A compiled model is found again for the same files and weights, and for no others."""
    import openvino

    path = graphs(exported_openvino)["text_encoder"]
    core = openvino.Core()

    def compiled(*weights: float) -> tuple[int, np.ndarray]:
        read = [lora.read(files["kohya"], weight) for weight in weights]
        graph = core.read_model(path)
        changes = planned(exported_openvino, *read).get("text_encoder", {})
        ChangedWeights(changes).openvino(graph)
        made = core.compile_model(graph, "CPU", {"CACHE_DIR": str(tmp_path)})
        return len(list(tmp_path.glob("*.blob"))), made({"input_ids": IDS})[0]

    results = [compiled(), compiled(0.8), compiled(0.8), compiled(0.5), compiled()]
    assert [blobs for blobs, _ in results] == [1, 2, 2, 3, 3]
    np.testing.assert_array_equal(results[1][1], results[2][1])
    np.testing.assert_array_equal(results[0][1], results[4][1])
    assert distance(results[1][1], results[0][1]) > 1e-3
    assert distance(results[1][1], results[3][1]) > 1e-3


SHAPES = {
    "unet": {"mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": (8, 768)},
    "text_encoder": {"encoder.layers.0.self_attn.q_proj.weight": (8, 8)},
}
TO_K = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def pair(layer: str, width: int = 768) -> dict[str, np.ndarray]:
    down, up = np.ones((2, width), "f4"), np.ones((8, 2), "f4")
    return {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"conjured_up": np.ones(1)}, r"conjured_up \(of no known kind\)"),
        (pair("lora_unet_nowhere"), r"lora_unet_nowhere.*no place"),
        (pair(TO_K, 1024), "it is for Stable Diffusion 2, the model is Stable Diffusion 1"),
        (pair(TO_K.replace("mid_block", "middle_block"), 2048), "for Stable Diffusion XL"),
        (
            {f"{TO_K}.lokr_w1": np.ones((2, 2), "f4"), f"{TO_K}.lokr_w2": np.ones((4, 1024), "f4")},
            "for Stable Diffusion XL",
        ),
        (pair("lora_te2_text_model_encoder_layers_0_mlp_fc1"), "for Stable Diffusion XL"),
        (pair("lora_unet_double_blocks_0_img_attn_proj"), "FLUX"),
        ({f"{TO_K}.lora_down.weight": np.ones((2, 768), "f4")}, "down alone"),
        (pair(TO_K) | {f"{TO_K}.dora_scale": np.ones(9, "f4")}, r"magnitude of \(9,\)"),
        (pair(TO_K) | {f"{TO_K}.alpha": np.ones(2, "f4")}, "alpha that is not one number"),
        (pair("model.diffusion_model.joint_blocks.0.x_block.attn.qkv"), "Stable Diffusion 3"),
        ({"model.diffusion_model.out.2.weight": np.ones((4, 8), "f4")}, "a whole checkpoint"),
        ({"emb_params": np.ones((4, 8), "f4")}, "embedding.*--embedding"),
        ({"down_blocks.0.resnets.0.conv1.weight": np.ones((4, 8), "f4")}, "a whole UNet"),
        ({"unet.conv_in.ia3_l": np.ones((4, 1), "f4")}, "PEFT"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tensors: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    file = loras.save(tmp_path / "bad.safetensors", tensors)
    with pytest.raises(AdapterError, match=message) as error:
        fitting.changes([lora.read(file)], SHAPES)
    assert "bad.safetensors" in str(error.value)
    assert "\n" not in str(error.value)


def test_layers_of_another_size_are_refused(tmp_path: Path) -> None:
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    file = loras.save(tmp_path / "wide.safetensors", pair(name, 16))
    with pytest.raises(AdapterError, match=rf"{name}.*\(2, 16\).*\(8, 8\)"):
        fitting.changes([lora.read(file)], SHAPES)


ODD = {
    "conjured_up": ("of no known kind", {"conjured_up": np.ones(1)}),
    "lora_unet_nowhere": ("the model has no place for it", pair("lora_unet_nowhere")),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (
        "does not make",
        pair("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 16),
    ),
    "to_k.lora_up": (
        "another name",
        pair("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"),
    ),
    "lora_unet_conv_in.diff_b": ("no place", {"lora_unet_conv_in.diff_b": np.ones(4, "f4")}),
    "lora_unet_conv_in.lora_down": (
        "down alone",
        {"lora_unet_conv_in.lora_down.weight": np.ones((2, 4), "f4")},
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_not_applied_is_named_in_one_line(
    odd: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The layers that fit are used; webui and ComfyUI do the same."""
    reason, tensors = ODD[odd]
    file = loras.save(tmp_path / "odd.safetensors", pair(TO_K) | tensors)
    changes = fitting.changes([lora.read(file)], SHAPES)
    assert list(changes["unet"]) == list(SHAPES["unet"])
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.search(rf"odd\.safetensors: {len(tensors)} keys? (is|are) not applied: .*", line)
    assert odd.split(".")[-1] in line
    assert reason in line
    assert "\n" not in line


def test_graphs_without_names_say_so(tmp_path: Path) -> None:
    file = loras.save(tmp_path / "x.safetensors", pair(TO_K))
    with pytest.raises(AdapterError, match=r"unet does not name its weights.*export"):
        fitting.changes([lora.read(file)], {"unet": {}, "text_encoder": SHAPES["text_encoder"]})


def test_quantized_weights_say_so() -> None:
    with pytest.raises(AdapterError, match=r"stored as uint8.*export"):
        changed(Held("to_q.weight"), np.ones((2, 2), np.uint8), lambda weight: weight)


def test_weights_beyond_half_precision_say_so() -> None:
    with pytest.raises(AdapterError, match="leaves the range of float16"):
        changed(Held("to_q.weight"), np.ones((2, 2), np.float16), lambda weight: weight * 1e6)


@pytest.mark.parametrize("cut", [4, 60, -3])
def test_truncated_files_are_refused(cut: int, tmp_path: Path) -> None:
    file = loras.save(tmp_path / "cut.safetensors", pair(TO_K))
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(AdapterError, match=r"cut\.safetensors"):
        lora.read(file)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_number_type_is_read(dtype: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    down, up = f"{TO_K}.lora_down.weight", f"{TO_K}.lora_up.weight"
    file = tmp_path / "typed.safetensors"
    save_file({down: values, up: torch.ones(8, 3).to(values.dtype)}, file)
    (layer,) = lora.read(file).layers["unet"].values()
    np.testing.assert_array_equal(layer.factors["down"].astype("f8"), values.double().numpy())


def test_weight_is_told_from_path(tmp_path: Path) -> None:
    file = loras.save(tmp_path / "a.safetensors", pair(TO_K))
    assert lora.opened(f"{file}:-0.5").weight == -0.5
    assert lora.opened(str(file)).weight == lora.opened(file).weight == 1.0
    assert lora.opened((file, 0.25)).weight == 0.25
    for wrong in (f"{file}:much", f"{tmp_path}/b.safetensors:0.5"):
        with pytest.raises(AdapterError, match="no such file"):
            lora.opened(wrong)
    with pytest.raises(AdapterError, match="no number"):
        lora.opened(f"{file}:nan")


def test_nothing_of_torch_is_needed(files: dict[str, Path], exported_openvino: Path) -> None:
    code = f"""
import sys
for name in ("torch", "safetensors", "onnx", "diffusers", "transformers", "peft"):
    sys.modules[name] = None
from pathlib import Path
from pleinair.runtime.adapters import fitting, lora, model, inversion
graphs = {{"unet": Path({str(exported_openvino)!r}) / "unet" / "openvino_model.xml",
          "text_encoder": Path({str(exported_openvino)!r}) / "text_encoder" / "openvino_model.xml"}}
print(len(model.changes(graphs, [lora.read({str(files["kohya"])!r})])["unet"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
