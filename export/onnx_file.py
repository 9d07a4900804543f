"""An ONNX model on the disk: `model.onnx`, with large weights in one `model.onnx_data`."""

from pathlib import Path

import onnx
from onnx import external_data_helper

FILE = "model.onnx"
DATA = "model.onnx_data"

# Protobuf stops at 2 GB, and a file above 1 GB is read better by mapping it.
INLINE_LIMIT = 1_000_000_000


def is_large(model: onnx.ModelProto, more: int = 0) -> bool:
    """Whether its weights, and as many bytes more, are kept in a file of their own."""
    return sum(len(weight.raw_data) for weight in model.graph.initializer) + more > INLINE_LIMIT


def append(weight: onnx.TensorProto, folder: Path) -> None:
    """Move a weight's values to the end of the file of weights in `folder`."""
    external_data_helper.set_external_data(weight, DATA)
    external_data_helper.save_external_data(weight, str(folder))
    weight.ClearField("raw_data")


def save(model: onnx.ModelProto, folder: Path, external: bool | None = None) -> Path:
    """Write `model` into `folder`, and return the file.

    external: keep the weights in the file beside it; None does so where they are large.
    """
    onnx.save_model(
        model,
        folder / FILE,
        save_as_external_data=is_large(model) if external is None else external,
        all_tensors_to_one_file=True,
        location=DATA,
    )
    if (folder / DATA).exists():  # onnx makes it readable to its owner alone
        (folder / DATA).chmod((folder / FILE).stat().st_mode)
    return folder / FILE
