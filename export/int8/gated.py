"""Gated feed-forwards of a UNet: their projection is cut in two before it is computed, not after.

GEGLU [Shazeer 2020, arXiv 2002.05202] projects tokens to twice the width and halves the result; one
half gates the other. OpenVINO copies halves in a kernel that knows no vector instructions, in
Stable Diffusion 2.5 % of an int8 evaluation. Of a projection with half of the weights nothing has
to be copied, and every number stays what it was.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pleinair.runtime.graphs.stored import stored


def split_projections(model: Any) -> int:
    """Give each half of a gated projection in an openvino.Model a product of its own; how many."""
    projections = list(_projections(model))
    for halves, added, product in projections:
        for which, output in enumerate(halves.outputs()):
            part = _half(added, product, which)
            for reader in output.get_target_inputs():
                reader.replace_source_output(part.output(0))
    model.validate_nodes_and_infer_types()
    return len(projections)


def _projections(model: Any) -> Iterator[tuple[Any, Any, Any]]:
    """What halves tokens in their last dimension, what added the bias, and the product before."""
    for halves in model.get_ordered_ops():
        if halves.get_type_name() not in ("Split", "VariadicSplit"):
            continue
        added = halves.input(0).get_source_output().get_node()
        product = added.input(0).get_source_output().get_node() if added.inputs() else added
        if (added.get_type_name(), product.get_type_name()) != ("Add", "MatMul"):
            continue
        constant = all(stored(node) is not None for node in (added, product))
        if constant and _widths(halves) == [_widths(added)[0] // 2] * 2:
            yield halves, added, product


def _widths(node: Any) -> list[int]:
    """The last dimension of each of its outputs; -1 where that is free."""
    shapes = [output.get_partial_shape() for output in node.outputs()]
    return [shape[-1].get_length() if shape[-1].is_static else -1 for shape in shapes]


def _half(added: Any, product: Any, which: int) -> Any:
    """The first or second half of a projection, with its bias."""
    from openvino import opset13 as opset

    turned = product.get_attributes()["transpose_b"]

    def taken(node: Any, axis: int) -> Any:
        half = np.split(stored(node).data, 2, axis)[which]
        return opset.convert(opset.constant(np.ascontiguousarray(half)), "f32")

    tokens = product.input(0).get_source_output()
    part = opset.matmul(tokens, taken(product, -2 if turned else -1), False, turned)
    part.friendly_name = f"{product.friendly_name}/half_{which}"
    whole = opset.add(part, taken(added, -1))
    whole.friendly_name = f"{added.friendly_name}/half_{which}"
    return whole
