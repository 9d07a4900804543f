"""What NNCF looks at in an ONNX graph, computed piece by piece.

NNCF opens all of a graph in ONNX Runtime, with a result for each feature map and each weight that
is to be quantized, and has all of them given out at once. In pieces a value is looked at when it is
known, and forgotten. OpenVINO computes them.
"""

import contextlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino

from .. import ir_pieces
from .post_training import Inputs, load
from .statistics import TOGETHER


def values(
    model: onnx.ModelProto,
    names: Collection[str],
    samples: Sequence[Inputs],
    folder: Path,
    tell: Callable[[], None],
) -> Iterator[tuple[str, np.ndarray]]:
    """What is computed by these names for each of the samples, as soon as it is known.

    Of one name values come in the order of the samples.

    folder: of the model's weights; a graph, and what goes from piece to piece, are written there.
    tell: called for each sample that has been gone through.
    """
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(outputs)
    file = folder / "watched.onnx"
    onnx.save_model(shown, file)
    shapes = {name: np.shape(value) for name, value in samples[0].items()}

    def read() -> Any:
        graph = openvino.Core().read_model(file)
        # Of fixed shapes the memory for what is computed in between is planned, and shared.
        graph.reshape(shapes)
        return graph

    for begin in range(0, len(samples), TOGETHER):
        some = samples[begin : begin + TOGETHER]
        with tempfile.TemporaryDirectory(prefix="passed-", dir=folder) as passed:
            found = ir_pieces.outputs(read, some, watched=True, aside=Path(passed))
            yield from ((name, value) for _, name, value in found if name in names)
        for _ in some:
            tell()


@contextlib.contextmanager
def statistics_in_pieces(
    samples: Sequence[Inputs], folder: Path, tell: Callable[[], None]
) -> Iterator[None]:
    """Let NNCF collect its statistics so; `folder` and `tell` are for `values`.

    NNCF names no other way that could be chosen, so its own one is exchanged inside the block.
    """
    load()
    from nncf.onnx.graph.model_transformer import ONNXModelTransformer
    from nncf.onnx.graph.node_utils import get_input_edges_mapping
    from nncf.onnx.graph.onnx_helper import get_array_from_tensor, get_name_to_node_map
    from nncf.onnx.statistics import aggregator
    from nncf.tensor import Tensor

    class InPieces(aggregator.ONNXStatisticsAggregator):
        def collect_statistics(self, model: onnx.ModelProto, graph: Any) -> None:
            collectors = self._collectors(model, graph)
            known = {weight.name: weight for weight in model.graph.initializer}
            for name in collectors.keys() & known.keys():
                value = get_array_from_tensor(model, known[name])
                _register(collectors[name], Tensor(value))
            computed = collectors.keys() - known.keys()
            for name, value in values(model, computed, samples, folder, tell):
                _register(collectors[name], Tensor(value))

        def _collectors(self, model: onnx.ModelProto, graph: Any) -> dict[str, list[Any]]:
            """What collects statistics, by the name of the value."""
            inputs, nodes = get_input_edges_mapping(graph), get_name_to_node_map(model)
            found = defaultdict(list)
            for _, point, collector in self.statistic_points.get_tensor_collectors():
                place = point.target_point
                name = ONNXModelTransformer._get_target_edge(
                    place.port_id, place.target_node_name, place.type, nodes, inputs
                )
                found[name].append(collector)
            return found

    theirs = aggregator.ONNXStatisticsAggregator
    aggregator.ONNXStatisticsAggregator = InPieces
    try:
        yield
    finally:
        aggregator.ONNXStatisticsAggregator = theirs


def _register(collectors: Sequence[Any], value: Any) -> None:
    for collector in collectors:
        collector.register_input_for_all_reducers(value)
