"""Damaged and random adapter files: nothing but PleinairError, within seconds and little memory.

The inputs are the same in every run.
"""

import contextlib
import functools
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime.adapters import fitting, inversion, lora
from pleinair.runtime.errors import PleinairError
from pleinair.runtime.graphs import onnx_weights
from pleinair.runtime.graphs.changes import Shapes

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

fuzzed = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=list(HealthCheck),
)

SHAPES: dict[str, Shapes] = {
    "unet": {
        "conv_in.weight": (4, 4, 3, 3),
        "mid_block.attentions.0.proj_in.weight": (4, 4),
        "mid_block.attentions.0.norm.weight": (4,),
    },
    "text_encoder": {"encoder.layers.0.mlp.fc1.weight": (4, 4)},
}
LAYERS = (
    "lora_unet_conv_in",
    "lora_unet_mid_block_attentions_0_proj_in",
    "lora_unet_mid_block_attentions_0_norm",
    "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "bundle_emb.word",
    "elsewhere",
)
ROLES = (
    *("lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha", "scale", "dora_scale"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "diff", "diff_b"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    *("a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight", "w_norm", "b_norm"),
    *("oft_blocks", "oft_diag", "rescale", "weight", "on_input", "lora_magnitude_vector"),
    *("lora_B.bias", "string_to_param.*", "clip_l", "clip_g", "else"),
)
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 4, 9]), max_size=4).map(tuple)
arrays = st.tuples(shapes, st.sampled_from(["f4", "f2", "i4"])).map(lambda of: np.ones(*of))
keys = st.tuples(st.sampled_from(LAYERS), st.sampled_from(ROLES)).map(".".join)
tensors = st.dictionaries(keys | st.text(max_size=12), arrays, max_size=12)


def written(found: dict[str, np.ndarray]) -> bytes:
    """As safetensors."""
    names = {"float32": "F32", "float16": "F16", "int32": "I32"}
    header, body = {}, b""
    for key, value in found.items():
        at, data = len(body), np.ascontiguousarray(value).tobytes()
        body += data
        offsets = [at, at + len(data)]
        header[key] = {
            "dtype": names[str(value.dtype)],
            "shape": list(value.shape),
            "data_offsets": offsets,
        }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def zipped(pickled: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(64))
    return made.getvalue()


def painted(path: Path) -> None:
    """A LoRA read, put on a model, and its weights computed."""
    for part, changes in fitting.changes([lora.read(path, 0.7)], SHAPES).items():
        for name, change in changes.items():
            weight = SHAPES[part][name.replace(".bias", ".weight")]
            shape = weight[:1] if name.endswith(".bias") else weight
            assert change(np.ones(shape, np.float32)).shape == shape


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Write a file of that content and read it; it is refused, or it is used."""
    folder = tmp_path_factory.mktemp("fuzz")

    def attempt(content: bytes, *reads: Callable[[Path], Any], name: str = "x.safetensors") -> None:
        path = folder / name
        path.write_bytes(content)
        for read in reads:
            with contextlib.suppress(PleinairError), np.errstate(all="ignore"):
                read(path)

    return attempt


@fuzzed
@given(found=tensors)
def test_layers_of_any_factors(found: dict[str, np.ndarray], tried: Callable[..., None]) -> None:
    tried(written(found), painted, inversion.read)


@fuzzed
@given(layer=st.sampled_from(LAYERS), data=st.data())
def test_layers_whose_factors_nearly_fit(
    layer: str, data: st.DataObject, tried: Callable[..., None]
) -> None:
    """All factors of a kind, of sizes that often meet."""
    sides = st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=4).map(tuple)
    kinds = (ROLES[:4], ROLES[6:12], ROLES[14:21], ROLES[21:26], ROLES[28:31], ROLES[31:33])
    roles = data.draw(st.sampled_from(kinds))
    found = {f"{layer}.{role}": np.ones(data.draw(sides), "f4") for role in roles}
    tried(written(found), painted)


@fuzzed
@given(at=st.integers(0, 400), bits=st.binary(min_size=1, max_size=6), data=st.data())
def test_damaged_safetensors(
    at: int, bits: bytes, data: st.DataObject, tried: Callable[..., None]
) -> None:
    pair = {f"{LAYERS[1]}.{role}": np.ones((4, 4), "f4") for role in ROLES[:2]}
    whole = written(pair)
    changed = whole[:at] + bits + whole[at + len(bits) :]
    tried(data.draw(st.sampled_from([changed, whole[:at], whole + bits])), painted, inversion.read)


objects = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@fuzzed
@given(found=objects, protocol=st.integers(0, 4), at=st.integers(0, 80), bits=st.binary(max_size=5))
def test_damaged_pickles(
    found: Any, protocol: int, at: int, bits: bytes, tried: Callable[..., None]
) -> None:
    whole = pickle.dumps({"string_to_param": found, "state_dict": found}, protocol)
    for pickled in (whole, whole[:at] + bits + whole[at + len(bits) :], bits * 9):
        tried(zipped(pickled), painted, inversion.read, name="x.pt")


@functools.cache
def small_graph() -> bytes:
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    held = onnx.numpy_helper.from_array(np.ones((4, 4), "f4"), "onnx::MatMul_7")
    node = onnx.helper.make_node("MatMul", ["x", "onnx::MatMul_7"], ["y"], "/proj_in/MatMul")
    ends = [value(name, onnx.TensorProto.FLOAT, [None, 4]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [held])
    return bytes(onnx.helper.make_model(graph).SerializeToString())


@fuzzed
@given(at=st.integers(0, 250), bits=st.binary(max_size=10), cut=st.booleans())
def test_damaged_graphs(at: int, bits: bytes, cut: bool, tried: Callable[..., None]) -> None:
    whole = small_graph()
    damaged = whole[:at] + bits + (b"" if cut else whole[at + len(bits) :])

    def change(path: Path) -> None:
        graph = onnx_weights.OnnxGraph.open(path)
        changes = {"proj_in.weight": lambda old: old + 1, "proj_in.bias": lambda old: old + 1}
        onnx_weights.change(graph, changes)

    tried(damaged, onnx_weights.shapes, onnx_weights.widened_bytes, change, name="x.onnx")
