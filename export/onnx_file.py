"""An ONNX model on the disk: `model.onnx`, with large weights in one `model.onnx_data`."""

from pathlib import Path

import onnx
from onnx import external_data_helper

FILE = "model.onnx"
DATA = "model.onnx_data"

# Protobuf stops at 2 GB, and a file above 1 GB is read better by mapping it.
INLINE_LIMIT = 1_000_000_000


# Bytes of a weight that is worth a place in the file of weights.
_WORTH = 1024


def is_large(model: onnx.ModelProto, more: int = 0) -> bool:
    """Whether its weights, and as many bytes more, are kept in a file of their own."""
    return sum(map(_bytes, model.graph.initializer)) + more > INLINE_LIMIT


def _bytes(weight: onnx.TensorProto) -> int:
    if external_data_helper.uses_external_data(weight):
        return external_data_helper.ExternalDataInfo(weight).length or 0
    return len(weight.raw_data)


def loaded(weight: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
    """A copy of a weight with its values, which may be in a file in `folder`.

    A copy, for a model keeps the memory of whatever was put into it, until it is gone itself.
    Raises onnx.checker.ValidationError for a link, or a file outside the folder.
    """
    copy = onnx.TensorProto()
    copy.CopyFrom(weight)
    if external_data_helper.uses_external_data(copy):
        external_data_helper.load_external_data_for_tensor(copy, str(folder))
        copy.data_location = onnx.TensorProto.DEFAULT
        del copy.external_data[:]
    return copy


def append(weight: onnx.TensorProto, folder: Path) -> None:
    """Move a weight's values to the end of the file of weights in `folder`."""
    external_data_helper.set_external_data(weight, DATA)
    external_data_helper.save_external_data(weight, str(folder))
    weight.ClearField("raw_data")


def save(
    model: onnx.ModelProto,
    folder: Path,
    external: bool | None = None,
    source: Path | None = None,
) -> Path:
    """Write `model` into `folder`, and return the file.

    external: keep the weights in the file beside it; None does so where they are large.
    source: the folder of those that the model names and does not hold. None where it holds them
        all, but for what `append` has put into `folder`.
    """
    if external is None:
        external = is_large(model)
    for weight in model.graph.initializer:
        if source is not None and external_data_helper.uses_external_data(weight):
            moved = loaded(weight, source)
            if external:
                append(moved, folder)
            weight.CopyFrom(moved)
        elif external and len(weight.raw_data) >= _WORTH:
            append(weight, folder)
    onnx.save_model(model, folder / FILE)
    if (folder / DATA).exists():  # onnx makes it readable to its owner alone
        (folder / DATA).chmod((folder / FILE).stat().st_mode)
    return folder / FILE
