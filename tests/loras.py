"""LoRA files with random factors, under the names that each tool gives them; graphs with them on.

The names are written out here by hand, not taken from the code under test.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from pleinair.runtime.graphs.changes import Changes
from pleinair.runtime.graphs.onnx_graph import OnnxGraph
from pleinair.runtime.graphs.weights import ChangedWeights

Weights = dict[str, np.ndarray]


def factors(module: Any, seed: int, *, alphas: Sequence[float] = (2.5,)) -> Weights:
    """`LAYER.down`, `LAYER.up` and `LAYER.alpha` for every layer of a torch module.

    Ranks go from 1 to 4, so that no scale can be left out. diffusers forgets alphas that are not
    the same in all layers ("alpha_pattern keys did not match"), so by default they are.
    """
    random = np.random.default_rng(seed)
    found: Weights = {}
    for number, (name, layer) in enumerate(module.named_modules()):
        if type(layer).__name__ not in ("Linear", "Conv2d"):
            continue
        shape, rank = tuple(layer.weight.shape), 1 + number % 4
        name = name.removeprefix("text_model.")
        found[f"{name}.down"] = _normal(random, rank, *shape[1:])
        found[f"{name}.up"] = _normal(random, shape[0], rank, *[1] * (len(shape) - 2))
        found[f"{name}.alpha"] = np.float32(alphas[number % len(alphas)])
    return found


def kohya(path: Path, unet: Weights, text_encoder: Mapping[str, np.ndarray] = {}) -> Path:
    """kohya's sd-scripts: lora_unet_down_blocks_0_…_to_q.lora_down.weight, .alpha."""
    roles = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    prefixes = ((unet, "lora_unet_"), (text_encoder, "lora_te_text_model_"))
    tensors = {}
    for weights, prefix in prefixes:
        for key, value in weights.items():
            layer, role = key.rsplit(".", 1)
            tensors[f"{prefix}{layer.replace('.', '_')}.{roles[role]}"] = value
    return save(path, tensors)


def diffusers(path: Path, unet: Weights, text_encoder: Mapping[str, np.ndarray] = {}) -> Path:
    """diffusers since it uses PEFT: unet.down_blocks.0.….to_q.lora_A.weight."""
    roles = {"down": "lora_A.weight", "up": "lora_B.weight"}
    prefixes = ((unet, "unet."), (text_encoder, "text_encoder.text_model."))
    tensors = {}
    for weights, prefix in prefixes:
        for key, value in weights.items():
            layer, role = key.rsplit(".", 1)
            if role in roles:
                tensors[f"{prefix}{layer}.{roles[role]}"] = value
    return save(path, tensors)


def processors(path: Path, unet: Weights, text_encoder: Mapping[str, np.ndarray] = {}) -> Path:
    """diffusers before: unet.….attn1.processor.to_q_lora.down.weight, attention alone."""
    clip = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    tensors = {}
    for key, value in unet.items():
        layer, role = key.rsplit(".", 1)
        block, found, name = layer.rpartition(".attn")
        if found and role != "alpha":
            number, name = name.split(".", 1)
            name = name.removesuffix(".0")
            tensors[f"unet.{block}.attn{number}.processor.{name}_lora.{role}.weight"] = value
    for key, value in text_encoder.items():
        layer, role = key.rsplit(".", 1)
        block, found, name = layer.rpartition(".self_attn.")
        if found and role != "alpha":
            start = f"text_encoder.text_model.{block}.self_attn"
            tensors[f"{start}.{clip[name]}_lora.{role}.weight"] = value
    return save(path, tensors)


def save(path: Path, tensors: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
    return path


def run(engine: str, file: Path, changes: Changes, feeds: Mapping[str, Any]) -> np.ndarray:
    """The first output of a graph with changed weights, by the engine itself."""
    if engine == "openvino":
        import openvino

        core = openvino.Core()
        graph = core.read_model(file)
        ChangedWeights(changes).openvino(graph)
        compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return compiled(dict(feeds))[0]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    changed = ChangedWeights(changes).onnx(OnnxGraph.open(file))
    changed.hand_to(options)
    session = onnxruntime.InferenceSession(changed.content, options)
    if "timestep" in feeds:  # one for the batch, and a float
        feeds = {**feeds, "timestep": np.array(feeds["timestep"][0], np.float32)}
    return session.run(None, dict(feeds))[0]


def _normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.normal(0, 0.2, shape).astype(np.float32)
