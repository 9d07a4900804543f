"""Weights put into an OpenVINO IR that was saved without them.

Such a file has inputs in their place. They become constants, whose values are appended to the file
of weights one by one: OpenVINO itself would have to hold all of them at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from pleinair.runtime.engines import heap

from .stored_weight import StoredWeight

_ALIGNMENT = 64

_Element = ElementTree.Element


def put(file: Path, weights: Mapping[str, StoredWeight], half: bool) -> None:
    """Give an IR its weights, by the names of the inputs that stand for them.

    half: stored as float16, and converted to float32 in the graph, as OpenVINO compresses weights.
    """
    if not weights:
        return
    tree = ElementTree.parse(file)
    graph = _Graph.of(tree.getroot())
    with file.with_suffix(".bin").open("ab") as stored:
        for layer in list(graph.layers):
            name = layer.attrib["name"]
            if layer.attrib["type"] == "Parameter" and name in weights:
                values = weights[name].read()
                offset, size = _append(stored, values.half() if half else values)
                graph.store(layer, "f16" if half else "f32", offset, size)
                if half:
                    graph.widen(layer)
                del values
                heap.give_back()  # what is small was put into the gaps of what is large
    ElementTree.indent(tree, "\t")
    tree.write(file, encoding="utf-8", xml_declaration=True)


def _append(stored: BinaryIO, values: object) -> tuple[int, int]:
    """Write a tensor's values; return where they begin, and their size in bytes."""
    data = memoryview(values.numpy()).cast("B")  # type: ignore[attr-defined]
    stored.write(bytes(-stored.tell() % _ALIGNMENT))
    offset = stored.tell()
    stored.write(data)
    return offset, data.nbytes


@dataclass(frozen=True)
class _Graph:
    """The two lists that an IR is."""

    layers: _Element
    edges: _Element

    @classmethod
    def of(cls, root: _Element) -> "_Graph":
        layers, edges = root.find("layers"), root.find("edges")
        assert layers is not None
        assert edges is not None
        return cls(layers, edges)

    def store(self, layer: _Element, kind: str, offset: int, size: int) -> None:
        """Make a constant of an input, of values at that place in the file of weights."""
        layer.set("type", "Const")
        data, port = layer.find("data"), layer.find("output/port")
        assert data is not None
        assert port is not None
        shape = data.attrib["shape"].replace(",", ", ")
        data.attrib.clear()
        data.attrib |= {"element_type": kind, "shape": shape}
        data.attrib |= {"offset": str(offset), "size": str(size)}
        port.set("precision", kind.upper().replace("F", "FP"))

    def widen(self, layer: _Element) -> None:
        """Let those that read a constant of float16 read it as float32."""
        number, name = layer.attrib["id"], layer.attrib["name"]
        layer.set("name", f"{name}_compressed")
        widened = str(max(int(one.attrib["id"]) for one in self.layers) + 1)
        convert = ElementTree.SubElement(self.layers, "layer")
        convert.attrib |= {"id": widened, "name": name, "type": "Convert", "version": "opset1"}
        ElementTree.SubElement(convert, "data", destination_type="f32")
        marks = ElementTree.SubElement(convert, "rt_info")
        ElementTree.SubElement(marks, "attribute", name="decompression", version="0")
        sides = (("input", "0", "FP16"), ("output", "1", "FP32"))
        for side, port_number, precision in sides:
            ends = ElementTree.SubElement(convert, side)
            port = ElementTree.SubElement(ends, "port", id=port_number, precision=precision)
            for dim in layer.iterfind("output/port/dim"):
                ElementTree.SubElement(port, "dim").text = dim.text
        for edge in self.edges:
            if edge.attrib["from-layer"] == number:
                edge.attrib |= {"from-layer": widened, "from-port": "1"}
        link = {"from-layer": number, "from-port": "0", "to-layer": widened, "to-port": "0"}
        ElementTree.SubElement(self.edges, "edge", link)
