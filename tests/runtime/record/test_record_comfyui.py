"""ComfyUI's graphs, followed from the sampler; what is not understood is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from program_samples import BOAT, comfy_graph, png

from pleinair.runtime.errors import SettingError
from pleinair.runtime.record import metadata

FOUND = {**BOAT, "scheduler": "dpmpp_2m_karras", "model": "v1-5"}


def read(folder: Path, graph: dict[str, Any]) -> metadata.Found:
    return metadata.read(png(folder / "a.png", {"prompt": json.dumps(graph)}))


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def test_files_that_it_saves(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(comfy_graph()), encoding="utf-8")
    assert metadata.read(path).settings == FOUND


@pytest.mark.parametrize("name", ["a.webp", "a.jpg"])
def test_exif_as_it_writes_it(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = f"prompt:{json.dumps(comfy_graph())}"
    exif[ExifTags.Base.Make] = f"workflow:{json.dumps({'nodes': []})}"
    Image.new("RGB", (8, 8)).save(tmp_path / name, exif=exif)
    assert metadata.read(tmp_path / name).settings == FOUND


def test_nan_is_what_python_writes(tmp_path: Path) -> None:
    graph = comfy_graph(n10=node("LoadImage", image="a.png"))
    graph["10"]["is_changed"] = float("nan")
    assert read(tmp_path, graph).settings == FOUND


def test_loras_and_layers(tmp_path: Path) -> None:
    graph = comfy_graph(
        n10=node(
            "LoraLoader",
            lora_name="ink/wash.safetensors",
            strength_model=0.5,
            strength_clip=0.25,
            model=["4", 0],
            clip=["4", 1],
        ),
        n11=node("LoraLoaderModelOnly", lora_name="b.pt", strength_model=1, model=["10", 0]),
        n12=node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["10", 1]),
        n13=node("FreeU_V2", b1=1.3, model=["11", 0]),
        n14=node("VAELoader", vae_name="mse.pt"),
    )
    graph["3"]["inputs"]["model"] = ["13", 0]
    graph["6"]["inputs"]["clip"] = graph["7"]["inputs"]["clip"] = ["12", 0]
    found = read(tmp_path, graph)
    assert found.settings == {
        **FOUND,
        "clip_layer": 2,
        "loras": [{"name": "wash", "weight": 0.5}, {"name": "b", "weight": 1.0}],
    }
    assert found.ignored == [
        "FreeU_V2",
        "ink/wash.safetensors's weight for the text encoder, 0.25",
        "VAE mse.pt",
    ]


def test_two_passes(tmp_path: Path) -> None:
    """The first one's seed, size and steps; that another follows is told."""
    second = dict(comfy_graph()["3"]["inputs"], seed=99, denoise=0.5, latent_image=["10", 0])
    graph = comfy_graph(
        n10=node("LatentUpscaleBy", samples=["3", 0], scale_by=2),
        n11=node("KSampler", **second),
    )
    graph["8"]["inputs"]["samples"] = ["11", 0]
    found = read(tmp_path, graph)
    assert found.settings == FOUND
    assert found.ignored == ["1 more samplers, which paint over it"]


def test_what_comes_after_the_sampler_is_named(tmp_path: Path) -> None:
    graph = comfy_graph(n10=node("FaceDetailer", image=["8", 0]))
    graph["9"]["inputs"]["images"] = ["10", 0]
    assert read(tmp_path, graph).ignored == ["FaceDetailer"]


def test_from_a_picture(tmp_path: Path) -> None:
    graph = comfy_graph(n5=node("VAEEncode", pixels=["10", 0]), n10=node("LoadImage", image="a"))
    graph["3"]["inputs"]["denoise"] = 0.6
    found = read(tmp_path, graph)
    assert found.settings["strength"] == 0.6
    assert "width" not in found.settings
    assert found.ignored == ["VAEEncode", "LoadImage"]


def test_the_custom_sampler(tmp_path: Path) -> None:
    graph = comfy_graph(
        n3=node(
            "SamplerCustomAdvanced",
            noise=["10", 0],
            guider=["11", 0],
            sampler=["12", 0],
            sigmas=["13", 0],
            latent_image=["5", 0],
        ),
        n10=node("RandomNoise", noise_seed=4),
        n11=node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=6.5),
        n12=node("KSamplerSelect", sampler_name="dpmpp_2m"),
        n13=node("BasicScheduler", model=["4", 0], scheduler="karras", steps=12, denoise=1),
    )
    found = read(tmp_path, graph)
    assert (found.settings, found.ignored) == (FOUND, [])


@pytest.mark.parametrize(
    "part", [{"start_at_step": 3}, {"end_at_step": 8}, {"add_noise": "disable"}]
)
def test_a_sampler_of_a_part_of_the_steps_is_named(tmp_path: Path, part: dict[str, Any]) -> None:
    graph = comfy_graph()
    whole = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 10000}
    for more, ignored in ((whole, []), ({**whole, **part}, ["KSampler in a part of the steps"])):
        graph["3"]["inputs"].update(more)
        assert read(tmp_path, graph).ignored == ignored


def test_texts_and_numbers_of_other_nodes(tmp_path: Path) -> None:
    graph = comfy_graph(
        n10=node("PrimitiveString", value="a boat, 蓝色"),
        n11=node("PrimitiveInt", value=4),
        n12=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["7", 0]),
    )
    graph["6"]["inputs"]["text"] = ["10", 0]
    graph["3"]["inputs"].update(seed=["11", 0], positive=["12", 0])
    found = read(tmp_path, graph)
    assert (found.settings, found.ignored) == (FOUND, ["ConditioningCombine"])


def test_its_prompts_in_our_language(tmp_path: Path) -> None:
    """Brackets mean nothing there, and weights something else; embeddings are named apart."""
    graph = comfy_graph()
    graph["6"]["inputs"]["text"] = "a [red] boat, embedding:good.pt, (night:1.2)"
    found = read(tmp_path, graph)
    assert found.settings["prompt"] == r"a \[red\] boat, good, (night:1.2)"
    assert found.settings["embeddings"] == [{"name": "good", "word": "good"}]
    assert found.ignored == ["the prompt's weights (ComfyUI weighs otherwise)"]


def test_a_text_that_cannot_be_followed_is_no_prompt(tmp_path: Path) -> None:
    graph = comfy_graph(n6=node("StrangeEncoder", words=["10", 0]), n10=node("Words", said="a"))
    found = read(tmp_path, graph)
    assert "prompt" not in found.settings
    assert found.ignored == ["StrangeEncoder"]


def test_a_graph_in_circles(tmp_path: Path) -> None:
    graph = comfy_graph(n4=node("Switch", model=["4", 0], clip=["4", 1]))
    graph["6"] = node("Switch", conditioning=["6", 0])
    graph["5"] = node("Switch", samples=["5", 0])
    found = read(tmp_path, graph)
    assert found.settings["seed"] == 4
    assert found.ignored == ["Switch"]


def test_a_graph_without_a_sampler_is_one_line(tmp_path: Path) -> None:
    graph = {"1": node("LoadImage", image="a.png"), "2": node("SaveImage", images=["1", 0])}
    with pytest.raises(SettingError, match=r"no sampler .* LoadImage, SaveImage"):
        read(tmp_path, graph)


def drawn(kind: str, number: int, values: list[Any], mode: int = 0, **links: int) -> dict[str, Any]:
    inputs = [{"name": name, "type": "*", "link": link} for name, link in links.items()]
    return {
        "id": number,
        "type": kind,
        "mode": mode,
        "inputs": inputs,
        "widgets_values": values,
        "pos": [0, 0],
    }


def test_a_workflow_as_it_was_drawn(tmp_path: Path) -> None:
    """With a node that is switched off, and one that only leads on."""
    nodes = [
        drawn("CheckpointLoaderSimple", 4, ["v1-5.ckpt"]),
        drawn("LoraLoader", 10, ["wash.pt", 1, 1], mode=4, model=1, clip=2),
        drawn("CLIPTextEncode", 6, ["a boat, 蓝色"], clip=3),
        drawn("CLIPTextEncode", 7, ["fog"], clip=3),
        drawn("EmptyLatentImage", 5, [512, 768, 1]),
        drawn("Reroute", 11, [], x=5),
        drawn(
            "KSampler",
            3,
            [4, "randomize", 12, 6.5, "dpmpp_2m", "karras", 1],
            model=4,
            positive=6,
            negative=7,
            latent_image=8,
        ),
        drawn("VAEDecode", 8, [], samples=9, vae=10),
        drawn("SaveImage", 9, ["ComfyUI"], images=11),
    ]
    ends = {
        1: (4, 0, 10, 0),
        2: (4, 1, 10, 1),
        3: (10, 1, 6, 0),
        4: (10, 0, 3, 0),
        5: (5, 0, 11, 0),
        6: (6, 0, 3, 1),
        7: (7, 0, 3, 2),
        8: (11, 0, 3, 3),
        9: (3, 0, 8, 0),
        10: (4, 2, 8, 1),
        11: (8, 0, 9, 0),
    }
    links = [[number, *end, "*"] for number, end in ends.items()]
    workflow = {"last_node_id": 11, "nodes": nodes, "links": links, "version": 0.4}
    found = metadata.read(png(tmp_path / "a.png", {"workflow": json.dumps(workflow)}))
    assert (found.settings, found.ignored) == (FOUND, [])
