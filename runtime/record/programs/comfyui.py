"""ComfyUI: a graph of nodes, followed from the sampler to its texts, size, model and LoRA files.

`prompt` is the graph that was carried out, `workflow` the one that was drawn (see `workflow.py`).
What stands on the way and is not understood is named by its class.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ...errors import SettingError
from ...files import conform
from ..texts import MAIN
from . import workflow
from .said import Said, lora, objects, plain, translated


class Node(msgspec.Struct):
    """Inputs are values, or [id of another node, number of its output]."""

    class_type: str
    inputs: dict[str, Any] = {}


Graph = Mapping[str, Node]

_SAMPLING = {"steps", "cfg", "sampler_name"}
_CUSTOM = {"SamplerCustom", "SamplerCustomAdvanced"}
# Nodes that leave a picture as it is.
_PLAIN = {
    *("VAEDecode", "VAEDecodeTiled", "SaveImage", "PreviewImage", "SaveAnimatedWEBP"),
    *("SaveImageWebsocket", "KSamplerSelect", "BasicScheduler", "RandomNoise", "CFGGuider"),
    *("BasicGuider", "Reroute", "PrimitiveNode", "FluxGuidance"),
}
# Inputs by which conditioning comes from another node, in the order in which they are followed.
_CONDITIONING = ("conditioning", "conditioning_1", "conditioning_to", "positive", "negative")
_TEXTS = ("text", "text_g", "text_l", "string", "value", "prompt", "Text", "STRING")
_CHECKPOINTS = ("ckpt_name", "unet_name", "model_name", "base_ckpt_name")
_EMPTY = {"EmptyLatentImage", "EmptySD3LatentImage"}
_EMBEDDING = re.compile(r"embedding:([\w.-]+?)(?:\.(?:pt|safetensors|bin))?(?=[\s,:()]|$)")
_SAMPLER_NAMES = {
    "seed": "seed",
    "noiseseed": "seed",
    "steps": "num_inference_steps",
    "cfg": "guidance_scale",
    "samplername": "sampler",
    "scheduler": "spacing",
    "denoise": "strength",
}
_SAMPLER_SILENT = {
    *("endatstep", "controlaftergenerate", "startatstep", "returnwithleftovernoise"),
    *("addnoise", "randomseedaftereverygen", "previewmethod"),
}
_MOST = 10_000
"""Nodes of a graph; the largest in use have some hundreds."""


def read(texts: Mapping[str, str]) -> Said | None:
    """Of a picture: the graph that was carried out, or else the one that was drawn."""
    for content in objects(texts, "prompt", "workflow"):
        if graph := _graph(content):
            return _Followed(graph).said()
    return None


def read_saved(texts: Mapping[str, str]) -> Said | None:
    """Of a file that ComfyUI has saved."""
    for content in objects(texts, MAIN):
        if graph := _graph(content):
            return _Followed(graph).said()
    return None


def _graph(content: dict[str, Any]) -> Graph | None:
    """The nodes, by their ids; None where the JSON is no graph of ComfyUI's."""
    drawn = workflow.graph(content)
    nodes = drawn if drawn is not None else content
    are_nodes = (isinstance(one, dict) and "class_type" in one for one in nodes.values())
    if not nodes or not all(are_nodes):
        return None
    if len(nodes) > _MOST:
        raise SettingError(f"a graph of ComfyUI with {len(nodes)} nodes is too large to follow")
    return conform(nodes, dict[str, Node], "the graph of ComfyUI", error=SettingError)


class _Followed:
    """A graph on the way from its last picture back to where it began."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._said = Said()
        self._strange: dict[str, None] = {}  # classes of nodes that are not understood, in order

    def said(self) -> Said:
        """What the sampler that painted first was given."""
        samplers = self._samplers()
        if not samplers:
            raise SettingError(
                "the graph of ComfyUI has no sampler that can be followed "
                f"(its nodes: {self._classes()}); give the settings as options"
            )
        first = samplers[-1]
        self._sampler(first)
        for name, setting in (("positive", "prompt"), ("negative", "negative_prompt")):
            self._text(self._conditioning(first, name), setting)
        self._size(first)
        self._model(first)
        if len(samplers) > 1:
            self._said.ignored.append(f"{len(samplers) - 1} more samplers, which paint over it")
        self._said.ignored += self._strange
        return self._said

    def _samplers(self) -> list[Node]:
        """The samplers on the way back from the picture that was saved, the first one last."""
        used = {link for node in self._graph.values() for link in _links(node)}
        ends = [key for key in self._graph if key not in used] or list(self._graph)
        # A picture that is only looked at ends a way of its own.
        ends.sort(key=lambda key: not self._graph[key].class_type.startswith("Save"))
        for end in ends:
            if found := self._back(end):
                return found
        return []

    def _back(self, key: str | None) -> list[Node]:
        found, strange = [], []
        seen: set[str] = set()
        while key is not None and key not in seen and (node := self._graph.get(key)):
            seen.add(key)
            if _samples(node):
                found.append(node)
            elif node.class_type not in _PLAIN | _EMPTY and not found:
                strange.append(node.class_type)  # after the sampler: it changes the picture
            names = ("latent_image", "samples", "latent", "images", "image", "pixels")
            key = next((to for name in names if (to := _link(node.inputs.get(name)))), None)
        if found:
            self._name(*strange)
        return found

    def _sampler(self, node: Node) -> None:
        inputs = dict(node.inputs)
        for name in ("noise", "guider", "sampler", "sigmas"):
            inputs.update(self._values(_link(node.inputs.get(name))))
        # What comes from elsewhere and is no number or name is followed by its own ways.
        values = {
            name: self._value(value)
            for name, value in inputs.items()
            if plain(name) in _SAMPLER_NAMES or not _link(value)
        }
        said = translated(values, _SAMPLER_NAMES, _SAMPLER_SILENT)
        if said.settings.get("strength") == 1:
            del said.settings["strength"]
        starts, adds = values.get("start_at_step"), values.get("add_noise")
        ends, steps = values.get("end_at_step"), values.get("steps")
        early = isinstance(ends, int) and isinstance(steps, int) and ends < steps
        if starts or early or adds in ("disable", False):
            said.ignored.append(f"{node.class_type} in a part of the steps")
        self._said.settings.update(said.settings)
        self._said.ignored += said.ignored

    def _values(self, key: str | None) -> dict[str, Any]:
        """The inputs of a node that gives a sampler one of its parts."""
        node = self._graph.get(key or "")
        if node is None:
            return {}
        if not _is_plain(node):
            self._name(node.class_type)
        return {name: value for name, value in node.inputs.items() if name != "model"}

    def _conditioning(self, node: Node, name: str) -> str | None:
        guider = self._graph.get(_link(node.inputs.get("guider")) or "")
        inputs = guider.inputs if guider else node.inputs
        link = _link(inputs.get(name))
        return link or (_link(inputs.get("conditioning")) if name == "positive" else None)

    def _text(self, key: str | None, setting: str) -> None:
        """Follow conditioning to the text that was encoded."""
        seen: set[str] = set()
        while key and key not in seen and (node := self._graph.get(key)):
            seen.add(key)
            if node.class_type == "ConditioningZeroOut":
                return
            texts = [self._value(node.inputs[name]) for name in _TEXTS if name in node.inputs]
            written = list(dict.fromkeys(text for text in texts if isinstance(text, str)))
            if written:
                if len(written) > 1:
                    self._name(f"{node.class_type}'s second text")
                self._said.settings[setting] = self._words(written[0])
                self._layers(node)
                return
            if not _is_plain(node):
                self._name(node.class_type)
            # Which of a ControlNet's two outputs is meant, its setting says.
            own = "negative" if setting == "negative_prompt" else "positive"
            names = (own, *_CONDITIONING)
            key = next((to for name in names if (to := _link(node.inputs.get(name)))), None)

    def _words(self, text: str) -> str:
        """A prompt in webui's language: brackets, which mean nothing in ComfyUI's, are escaped."""
        words = [found[1] for found in _EMBEDDING.finditer(text)]
        if words:
            entries = self._said.settings.setdefault("embeddings", [])
            entries += [{"name": word, "word": word} for word in words]
        if re.search(r"(?<!\\)\(", text):
            self._name("the prompt's weights (ComfyUI weighs otherwise)")
        text = _EMBEDDING.sub(r"\1", text)
        return re.sub(r"(?<!\\)([\[\]])", r"\\\1", text).strip()

    def _layers(self, encoder: Node) -> None:
        """Between a text and the checkpoint: how many layers are left out, LoRA files."""
        for node in self._upwards(encoder, "clip"):
            if node.class_type == "CLIPSetLastLayer":
                layer = self._value(node.inputs.get("stop_at_clip_layer"))
                self._said.settings.setdefault("clip_layer", str(layer).removeprefix("-"))
            elif not ("lora_name" in node.inputs or _is_checkpoint(node) or _is_plain(node)):
                self._name(node.class_type)

    def _size(self, node: Node) -> None:
        seen: set[str] = set()
        key = _link(node.inputs.get("latent_image"))
        while key and key not in seen and (latent := self._graph.get(key)):
            seen.add(key)
            width, height = (self._value(latent.inputs.get(side)) for side in ("width", "height"))
            if latent.class_type not in _EMPTY:
                self._name(latent.class_type)
            if isinstance(width, int) and isinstance(height, int):
                self._said.settings.update(width=width, height=height)
                batch = self._value(latent.inputs.get("batch_size"))
                if isinstance(batch, int) and batch > 1:
                    self._name(f"batch_size {batch} (all but the first have other noise)")
                return
            names = ("samples", "latent", "pixels", "image")
            key = next((to for name in names if (to := _link(latent.inputs.get(name)))), None)

    def _model(self, sampler: Node) -> None:
        guider = self._graph.get(_link(sampler.inputs.get("guider")) or "")
        entries = []
        for node in self._upwards(guider or sampler, "model"):
            if "lora_name" in node.inputs:
                entries.append(self._lora(node))
            elif _is_checkpoint(node):
                name = next(node.inputs[key] for key in _CHECKPOINTS if key in node.inputs)
                self._said.settings.update(translated({"m": name}, {"m": "model"}).settings)
            elif not _is_plain(node):
                self._name(node.class_type)
        if entries:
            self._said.settings["loras"] = entries[::-1]
        decoders = (node for node in self._graph.values() if node.class_type == "VAELoader")
        self._name(*(f"VAE {node.inputs.get('vae_name')}" for node in decoders))

    def _lora(self, node: Node) -> dict[str, Any]:
        weight = self._value(node.inputs.get("strength_model", 1))
        text = self._value(node.inputs.get("strength_clip", weight))
        if text != weight:
            self._name(f"{node.inputs['lora_name']}'s weight for the text encoder, {text}")
        return lora(node.inputs["lora_name"], weight)

    def _upwards(self, node: Node, name: str) -> Iterator[Node]:
        """The nodes from which one input comes, and theirs, up to the checkpoint."""
        seen: set[str] = set()
        key = _link(node.inputs.get(name))
        while key and key not in seen and (above := self._graph.get(key)):
            seen.add(key)
            yield above
            key = _link(above.inputs.get(name))

    def _value(self, value: Any) -> Any:
        """A value, also where another node holds it: a primitive, a text, a seed."""
        seen: set[str] = set()
        while (key := _link(value)) and key not in seen and (node := self._graph.get(key)):
            seen.add(key)
            names = ("value", "seed", "int", "float", *_TEXTS)
            value = next((node.inputs[name] for name in names if name in node.inputs), None)
            if value is None:
                self._name(node.class_type)
        return None if _link(value) else value

    def _name(self, *classes: str) -> None:
        self._strange.update(dict.fromkeys(classes))

    def _classes(self) -> str:
        return ", ".join(sorted({node.class_type for node in self._graph.values()}))


def _samples(node: Node) -> bool:
    return node.class_type in _CUSTOM or node.inputs.keys() >= _SAMPLING


def _is_plain(node: Node) -> bool:
    return node.class_type in _PLAIN


def _is_checkpoint(node: Node) -> bool:
    return any(name in node.inputs for name in _CHECKPOINTS)


def _link(value: object) -> str | None:
    """The id of the node that a value comes from; None for a value that stands there."""
    linked = isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
    return str(value[0]) if linked and isinstance(value, list) else None


def _links(node: Node) -> Iterator[str]:
    return (key for value in node.inputs.values() if (key := _link(value)))
