"""What is to become of a model's weights, and under which names graphs hold them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError

Array = NDArray[np.float32]
Change = Callable[[Array], Array]
"""A weight in PyTorch's layout, float32, to what takes its place."""
Changes = Mapping[str, Change]
"""Parameter name, as in `unet.state_dict()`, to its change."""
Shapes = Mapping[str, tuple[int, ...]]
"""Parameter name to its shape in PyTorch's layout."""

_WRAPPERS = re.compile(r"^(self\.)?(model\.)?(text_model\.)?")
_STORED = re.compile(r"(_compressed|\.float16)$")
_PARAMETER = re.compile(r"[\w.]+\.weight")


def parameter_name(constant: str, consumer: str, operator: str) -> tuple[str, bool] | None:
    """The PyTorch name of a graph's constant, and whether the graph holds it transposed.

    constant: the constant's own name. OpenVINO's converter keeps PyTorch's, behind "self."; so
        does torch.onnx, but for the weights of linear layers.
    consumer, operator: name and kind of the node that reads it. torch.onnx transposes a linear
        layer's weight and calls it "onnx::MatMul_123"; the node still tells the layer:
        "/down_blocks.0/attentions.0/proj_in/MatMul".
    Wrappers that exporters put around a model ("model.", "text_model.") are taken off.
    None for what is no weight, or has lost its name.
    """
    name = _STORED.sub("", constant)
    if _PARAMETER.fullmatch(name):
        return _WRAPPERS.sub("", name), False
    path = consumer.removesuffix("_output_0")
    if operator == "MatMul" and name.startswith("onnx::") and path.startswith("/"):
        layer = ".".join(path.split("/")[1:-1])
        return _WRAPPERS.sub("", f"{layer}.weight"), True
    return None


def changed(name: str, stored: NDArray[Any], transposed: bool, change: Change) -> NDArray[Any]:
    """The stored weight after its change, computed in float32 and kept in its number type.

    Raises AdapterError where the weight is not stored as floats, or the result leaves their range.
    """
    if stored.dtype.kind != "f":
        raise AdapterError(
            f"{name} is stored as {stored.dtype}, which cannot be changed afterwards; "
            "export the model with --lora"
        )
    weight = stored.astype(np.float32)
    weight = change(weight.T if transposed else weight)
    with np.errstate(over="ignore"):
        weight = np.ascontiguousarray(weight.T if transposed else weight, stored.dtype)
    if not np.isfinite(weight).all():
        raise AdapterError(
            f"{name} leaves the range of {stored.dtype} when it is changed; use a smaller weight"
        )
    return weight
