"""Self-attentions of a UNet, found in its graph, and the tokens that their keys are taken from.

At 512x512 pixels the top self-attentions of Stable Diffusion compare 4096 tokens with 4096. Tokens
near each other are alike, so their keys and values may come from every second row and column of
the feature map alone, while every token still asks: a quarter of the products, and the picture
keeps its detail [Smith, Saxena & Saha 2024, "ToDo: Token Downsampling", arXiv 2402.13573].

They are found by what they compute and not by name, so that it does not matter who exported the
graph. An ONNX file is looked at through OpenVINO, which keeps the names of its tensors.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pleinair.runtime.errors import ExportError

from .onnx_nodes import exchange

# Below as many keys a softmax costs next to nothing, and each of them says something of its own.
FEWEST_TOKENS = 1024

# From projection to product nothing happens to queries, keys and values but these.
_PASSED = {"Reshape", "Transpose", "Multiply", "Divide", "Add", "Convert", "Squeeze", "Unsqueeze"}
_PASSED |= {"FakeQuantize"}
_CHANNELS_LAST, _SWAPPED = [0, 2, 3, 1], [0, 2, 1]


@dataclass(frozen=True)
class SelfAttention:
    """One self-attention of an openvino.Model.

    tokens: the output that queries, keys and values are projections of, (batch, tokens, width).
    feature_map: the output that those tokens were, (batch, channels, rows, columns).
    keys, values: the matrix products that project them.
    """

    tokens: Any
    feature_map: Any
    keys: Any
    values: Any


def self_attentions(model: Any) -> list[SelfAttention]:
    """Those of an openvino.Model, in the order of execution."""
    found = []
    for op in model.get_ordered_ops():
        projections = [_projection(operand) for operand in _operands(op)]
        if len(projections) != 3 or any(one is None for one in projections):
            continue
        sources = [projection.input(0).get_source_output() for projection in projections]
        feature_map = _feature_map(sources[0])
        if len({_key(source) for source in sources}) == 1 and feature_map is not None:
            found.append(SelfAttention(sources[0], feature_map, projections[1], projections[2]))
    return found


def highest(
    model: Any, attentions: Sequence[SelfAttention], side: int, levels: int | None
) -> list[SelfAttention]:
    """The attentions at the `levels` largest resolutions that have any.

    side: rows and columns of the latents that the model is made for.
    levels: None is the largest resolution, where that has `FEWEST_TOKENS` or more.
    """
    counts = _token_counts(model, attentions, side)
    chosen = sorted(set(counts), reverse=True)[: levels or 1]
    if levels is None:
        chosen = [count for count in chosen if count >= FEWEST_TOKENS]
    return [one for one, count in zip(attentions, counts, strict=True) if count in chosen]


def stride_openvino(model: Any, attentions: Sequence[SelfAttention], stride: int) -> None:
    """Take keys and values from every `stride`-th row and column, of any number of them.

    Raises ExportError where the graph does not allow it: older ones fix the number of tokens.
    """
    import numpy as np
    from openvino import opset13 as opset

    def integers(*numbers: int) -> Any:
        return opset.constant(np.array(numbers, np.int64))

    for one in attentions:
        width = one.tokens.get_partial_shape()[2].get_length()
        shape = opset.shape_of(one.feature_map, "i64")
        size = opset.gather(shape, integers(2, 3), integers(0))
        grid = opset.concat([integers(0), size, integers(width)], 0)
        rows = opset.reshape(one.tokens, grid, special_zero=True)
        end = np.iinfo(np.int64).max
        taken = opset.slice(
            rows, integers(0, 0), integers(end, end), integers(stride, stride), integers(1, 2)
        )
        few = opset.reshape(taken, integers(0, -1, width), special_zero=True)
        few.friendly_name = f"{one.tokens.get_node().friendly_name}/every_{stride}"
        for projection in (one.keys, one.values):
            projection.input(0).replace_source_output(few.output(0))
    try:
        model.validate_nodes_and_infer_types()
    except RuntimeError as error:
        raise _fixed() from error


def stride_onnx(model: Any, attentions: Sequence[SelfAttention], stride: int) -> None:
    """The same in an onnx.ModelProto, whose attentions were found in it as OpenVINO reads it."""
    import numpy as np
    from onnx import helper, numpy_helper

    known: set[str] = set()
    added: dict[str, list[Any]] = {}

    def integers(*numbers: int) -> str:
        name = "every/" + "_".join(map(str, numbers))
        if name not in known:
            known.add(name)
            values = np.array(numbers, np.int64)
            model.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    made_by = {name: node for node in model.graph.node for name in node.output}
    place = {node.output[0]: i for i, node in enumerate(model.graph.node)}
    end = np.iinfo(np.int64).max
    for one in attentions:
        width = one.tokens.get_partial_shape()[2].get_length()
        tokens, feature_map = (_tensor(output) for output in (one.tokens, one.feature_map))
        projections = [made_by[_tensor(op.output(0))] for op in (one.keys, one.values)]
        here = f"{tokens}/every_{stride}"
        steps = [
            ("Shape", [feature_map]),
            ("Gather", [f"{here}/Shape", integers(2, 3)]),
            ("Concat", [integers(0), f"{here}/Gather", integers(width)]),
            ("Reshape", [tokens, f"{here}/Concat"]),
            (
                "Slice",
                [
                    f"{here}/Reshape",
                    *(integers(0, 0), integers(end, end), integers(1, 2)),
                    integers(stride, stride),
                ],
            ),
        ]
        nodes = [_node(operator, inputs, f"{here}/{operator}") for operator, inputs in steps]
        nodes.append(helper.make_node("Reshape", [f"{here}/Slice", integers(0, -1, width)], [here]))
        nodes[-1].name = here
        first = min((node.output[0] for node in projections), key=place.__getitem__)
        added.setdefault(first, []).extend(nodes)
        for projection in projections:
            projection.input[0] = here
    ordered = []
    for node in model.graph.node:
        ordered += [*added.get(node.output[0], ()), node]
    exchange(model, ordered)


def _node(operator: str, inputs: Sequence[str], name: str) -> Any:
    from onnx import helper

    attributes = {"axis": 0} if operator in ("Gather", "Concat") else {}
    return helper.make_node(operator, inputs, [name], name, **attributes)


def _tensor(output: Any) -> str:
    """The name that an ONNX tensor has."""
    names = sorted(output.get_names())
    if not names:
        raise _fixed()
    return str(names[0])


def _fixed() -> ExportError:
    return ExportError(
        "this UNet's attention takes no fewer keys; export the model anew, or keep it as it is "
        "with --attention-stride 1"
    )


def _operands(op: Any) -> list[Any]:
    """What an attention compares and mixes: queries, keys, values; empty for other operations.

    A fused one has them as its inputs. Else a softmax stands between two products.
    """
    kind = op.get_type_name()
    if kind == "ScaledDotProductAttention":
        return [port.get_source_output() for port in op.inputs()[:3]]
    if kind != "Softmax":
        return []
    product = _back(op.input(0).get_source_output())
    mixed = next((reader for reader in _readers(op) if reader.get_type_name() == "MatMul"), None)
    if product is None or mixed is None:
        return []
    return [port.get_source_output() for port in (*product.inputs(), mixed.input(1))]


def _readers(op: Any) -> Iterator[Any]:
    """Who reads a result, straight or after it was converted, quantized or given another shape."""
    for target in op.output(0).get_target_inputs():
        node = target.get_node()
        if node.get_type_name() in _PASSED:
            yield from _readers(node)
        else:
            yield node


def _projection(operand: Any) -> Any:
    """The product with a weight that an attention's operand comes from, or None."""
    product = _back(operand)
    weighs = product is not None and _is_constant(product.input(1).get_source_output())
    return product if weighs else None


def _back(output: Any) -> Any | None:
    """The matrix product that a value comes from, up to its shape, bias and scale."""
    while True:
        node = output.get_node()
        if node.get_type_name() == "MatMul":
            return node
        if node.get_type_name() not in _PASSED:
            return None
        sources = [port.get_source_output() for port in node.inputs()]
        output = next((source for source in sources if not _is_constant(source)), None)
        if output is None:
            return None


def _is_constant(output: Any) -> bool:
    """Whether a value is a weight, stored in any number type."""
    node = output.get_node()
    if node.get_type_name() == "Constant":
        return True
    stored = node.get_type_name() in _PASSED | {"Subtract"}
    return stored and all(_is_constant(port.get_source_output()) for port in node.inputs())


def _feature_map(tokens: Any) -> Any | None:
    """The four-dimensional value that tokens were, found backwards through what is between."""
    seen, waiting = set(), deque([tokens])
    while waiting:
        output = waiting.popleft()
        if _key(output) in seen or not output.get_element_type().is_real():
            continue
        seen.add(_key(output))
        node = output.get_node()
        before = _flattened(node)
        if before is not None:
            return before
        sources = [port.get_source_output() for port in node.inputs()]
        waiting.extend(sources[:1] if node.get_type_name() in ("Reshape", "Transpose") else sources)
    return None


def _flattened(node: Any) -> Any | None:
    """What a feature map was before it became tokens here; None where that is not done here.

    Channels go last before rows and columns become one, as in diffusers, or afterwards, as in
    CompVis's code. An attention puts its heads together in neither way.
    """
    if node.get_type_name() == "Transpose" and _order(node) == _SWAPPED:
        flat = node.input(0).get_source_output().get_node()
        if flat.get_type_name() == "Reshape" and _rank(flat.input(0)) == 4:
            source = flat.input(0).get_source_output()
            return None if source.get_node().get_type_name() == "Transpose" else source
    if node.get_type_name() == "Reshape" and _rank(node.input(0)) == 4:
        last = node.input(0).get_source_output().get_node()
        if last.get_type_name() == "Transpose" and _order(last) == _CHANNELS_LAST:
            return last.input(0).get_source_output()
    return None


def _order(transpose: Any) -> list[int]:
    order = transpose.input(1).get_source_output().get_node()
    return order.data.tolist() if order.get_type_name() == "Constant" else []


def _rank(port: Any) -> int | None:
    rank = port.get_partial_shape().rank
    return rank.get_length() if rank.is_static else None


def _key(output: Any) -> tuple[str, int]:
    """Which output it is; Python's objects for the same one differ."""
    return output.get_node().get_name(), output.get_index()


def _token_counts(model: Any, attentions: Sequence[SelfAttention], side: int) -> list[int]:
    """How many tokens each attention has, for latents of `side` rows and columns."""
    declared = {port: port.get_partial_shape() for port in model.inputs}
    model.reshape({port: _filled(port, side) for port in model.inputs})
    counts = [one.tokens.get_shape()[1] for one in attentions]
    model.reshape(declared)
    return counts


def _filled(port: Any, side: int) -> list[int]:
    """An input's shape with its free dimensions chosen: one sample, of that many rows and columns.

    How many words a prompt has does not matter here.
    """
    shape = list(port.get_partial_shape())
    return [
        size.get_length() if size.is_static else 1 if axis == 0 else side
        for axis, size in enumerate(shape)
    ]
