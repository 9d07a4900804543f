"""The layers of a graph in groups: what stays in floating point, and what is measured alone."""

import re
from collections import deque
from collections.abc import Iterable
from typing import Any

# Where numbers come in, go out and tell the time, rounding costs most and saves nothing: together
# they are less than a hundredth of the work.
ENDS = ("conv_in", "conv_out", "time embedding")
OTHER = "other"

_ENDS = {
    "conv_in": r"\b(conv_in|post_quant_conv)\b",
    "conv_out": r"\bconv_out\b",
    "time embedding": r"\b(time_proj|time_embedding|time_emb_proj|add_time_proj|add_embedding|"
    r"class_embedding)\b",
}
_BLOCK = re.compile(r"\b((?:down_blocks|up_blocks)\.\d+|mid_block)\b")
_KINDS = {
    "shortcuts": r"\bconv_shortcut\b",
    "self-attention": r"\battn1\b",
    "cross-attention": r"\battn2\b",
    "feed-forward": r"\bff\b",
    "resnets": r"\bresnets\b",
    "sampler": r"\b(down|up)samplers\b",
    "attention": r"\battentions\b",  # the VAE's; in a UNet its projections in and out
}
# OpenVINO's name for the first half of an ONNX node with a bias.
_BIASED = "/WithoutBiases"


def group_of(name: str) -> str | None:
    """The group that an operation's name puts it in; None where exporters left it nameless.

    "/model/down_blocks.1/attentions.0/transformer_blocks.0/attn1/to_q/MatMul" belongs to
    "down_blocks.1 self-attention".
    """
    path = name.replace("/", ".")
    for group, pattern in _ENDS.items():
        if re.search(pattern, path):
            return group
    block = _BLOCK.search(path)
    if block is None:
        return None
    inside = path[block.end() :]
    kind = next((kind for kind, pattern in _KINDS.items() if re.search(pattern, inside)), OTHER)
    return f"{block[1]} {kind}"


def always_kept(groups: Iterable[str]) -> list[str]:
    """Those of a graph's groups that stay in floating point, whatever the model.

    Of a UNet, which has both halves, also the shortcuts of the uppermost block: the one convolution
    of a ResNet whose input nothing has normalized, here two such at once, and what they say goes
    almost straight out. They are less than a hundredth of the work, too.
    """
    known = set(groups)
    shortcuts = sorted(group for group in known if re.fullmatch(r"up_blocks\.\d shortcuts", group))
    halves = any(group.startswith("down_blocks") for group in known)
    return [*ENDS, *(shortcuts[-1:] if halves else [])]


def groups(model: Any) -> dict[str, str]:
    """Operation -> group, for an openvino.Model, which may have been read from ONNX.

    The ends are found by what they do where they have no telling names.
    """
    found = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() not in ("Constant", "Parameter", "Result"):
            name = op.friendly_name.removesuffix(_BIASED)
            group = group_of(name) or _end(op)
            if group is not None or name not in found:
                found[name] = group or OTHER
    samples = [port.get_node() for port in model.inputs if _rank(port) == 4]
    for op in _nearest(samples, forwards=True):
        found[op.friendly_name.removesuffix(_BIASED)] = "conv_in"
    for op in _nearest(model.get_results(), forwards=False):
        found[op.friendly_name.removesuffix(_BIASED)] = "conv_out"
    return found


def _end(op: Any) -> str | None:
    """What is the same for all of a sample's places is computed from its timestep."""
    timed = op.get_type_name() == "MatMul" and _rank(op.input(0)) == 2
    return "time embedding" if timed else None


def _nearest(starts: Any, forwards: bool) -> list[Any]:
    """The convolutions next to a graph's sample, or to its results."""
    found, seen, waiting = [], set(), deque(starts)
    while waiting:
        op = waiting.popleft()
        if op.get_name() in seen:
            continue
        seen.add(op.get_name())
        kind = op.get_type_name()
        if kind == "Convolution":
            found.append(op)
        elif kind == "ShapeOf":
            continue  # how large a sample is says nothing of what is in it
        elif forwards:
            waiting.extend(
                target.get_node() for out in op.outputs() for target in out.get_target_inputs()
            )
        else:
            waiting.extend(port.get_source_output().get_node() for port in op.inputs()[:1])
    return found


def _rank(port: Any) -> int | None:
    rank = port.get_partial_shape().rank
    return rank.get_length() if rank.is_static else None
