"""Stable Diffusion 3's graphs: optimum's ends, and any size, in both formats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import openvino
import pytest
import torch

import checkpoints_sd3 as sd3
from pleinair.export import onnx_model, openvino_ir, parity
from pleinair.export.families import stable_diffusion_3
from pleinair.export.graphs.graph import Graph
from pleinair.runtime.errors import ExportError

FORMATS = {"openvino": openvino_ir, "onnx": onnx_model}
YOUNGER = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}

MODULES: dict[str, Callable[[], Any]] = {
    "text_encoder": lambda: sd3.random(sd3.projected_clip, 1, 600, 32),
    "text_encoder_2": lambda: sd3.random(sd3.projected_clip, 2, 600, 24),
    "text_encoder_3": lambda: sd3.random(sd3.tiny_t5, 3, 76),
    "transformer": lambda: sd3.random(sd3.tiny_transformer, 0),
    "transformer of 3.5": lambda: sd3.random(sd3.tiny_transformer, 0, **YOUNGER),
    "vae_decoder": lambda: sd3.random(sd3.tiny_vae, 0),
    "vae_encoder": lambda: sd3.random(sd3.tiny_vae, 0),
}
# Names and ranks, in order.
ENDS: dict[str, tuple[dict[str, int], list[str]]] = {
    "text_encoder": (
        {"input_ids": 2},
        ["text_embeds", "last_hidden_state", *(f"hidden_states.{i}" for i in range(4))],
    ),
    "text_encoder_3": ({"input_ids": 2}, ["last_hidden_state"]),
    "transformer": (
        {"hidden_states": 4, "encoder_hidden_states": 3, "pooled_projections": 2, "timestep": 1},
        ["out_hidden_states"],
    ),
    "vae_decoder": ({"latent_sample": 4}, ["sample"]),
    "vae_encoder": ({"sample": 4}, ["latent_parameters"]),
}
ENDS["text_encoder_2"] = ENDS["text_encoder"]


def graph_of(name: str) -> Graph:
    """As the family has it."""
    submodels = stable_diffusion_3.FAMILY.submodels.values()
    kinds = {graph: kind for submodel in submodels for graph, kind in submodel.graphs.items()}
    return kinds[name.partition(" ")[0]].build(MODULES[name]())


def ends(file: Path) -> tuple[dict[str, int], list[str]]:
    if file.suffix == ".onnx":
        graph = onnx.load(file).graph
        ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in graph.input}
        return ranks, [value.name for value in graph.output]
    model = openvino.Core().read_model(file)
    ranks = {port.any_name: len(port.partial_shape) for port in model.inputs}
    return ranks, [port.any_name for port in model.outputs]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", MODULES)
def test_a_traced_graph_is_its_module_for_any_size(name: str, form: str, tmp_path: Path) -> None:
    graph, writer = graph_of(name), FORMATS[form]
    writer.write(graph, tmp_path, half=False)
    assert ends(tmp_path / writer.FILE) == ENDS[name.partition(" ")[0]]
    trials = parity.reference(graph)
    parity.compare(trials, writer.run(tmp_path, trials.inputs), name)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["text_encoder_3", "transformer"])
def test_weights_in_half_precision_only_round(name: str, form: str, tmp_path: Path) -> None:
    graph, writer = graph_of(name), FORMATS[form]
    writer.write(graph, tmp_path, half=True)
    trials = parity.reference(graph)
    found = writer.run(tmp_path, trials.inputs)
    parity.compare(trials, found, name, parity.ROUNDING_TOLERANCE)


def test_every_size_has_its_own_part_of_the_position_table() -> None:
    """Were the tracing example's cut frozen, the comparison would have to fail."""
    graph = graph_of("transformer")
    trials = parity.reference(graph)
    table = graph.module.model.pos_embed.pos_embed
    with torch.no_grad():
        table.copy_(table.roll(7, dims=1))
    moved = parity.reference(graph).outputs
    for trial, output in zip(trials.outputs, moved, strict=True):
        single = parity.Trials(trials.inputs[:1], [trial])
        with pytest.raises(ExportError, match="off by"):
            parity.compare(single, [output], "transformer")


@pytest.mark.parametrize("kind", ["3", "3 without T5", "3.5"])
def test_the_checkpoints_are_diffusers_own(kind: str, tmp_path: Path) -> None:
    """The pipeline loads what tests export, and every input of the transformer counts."""
    from diffusers import StableDiffusion3Pipeline

    make = sd3.tiny_stable_diffusion_3_5 if kind == "3.5" else sd3.tiny_stable_diffusion_3
    folder = make(tmp_path / "checkpoint", t5=kind != "3 without T5")
    absent = {"text_encoder_3": None, "tokenizer_3": None} if kind == "3 without T5" else {}
    pipe = StableDiffusion3Pipeline.from_pretrained(folder, **absent)
    pipe.set_progress_bar_config(disable=True)

    def paint(prompt: str, **prompts: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        options = {"num_inference_steps": 2, "height": 32, "width": 48, "output_type": "latent"}
        return pipe(prompt, generator=generator, **options, **prompts).images

    plain = paint("a red apple")
    assert plain.shape == (1, 16, 4, 6)
    for which in ("prompt_2", "negative_prompt", *(() if absent else ("prompt_3",))):
        other = paint("a red apple", **{which: "a dog"})
        assert (other - plain).abs().max() > 0.01, which
