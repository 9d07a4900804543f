"""A picture's arithmetic, counted without computing it."""

import io
import time
from pathlib import Path
from typing import Any

import openvino
import pytest

from pleinair.bench import flops, painting, tally
from pleinair.bench.worker import Watch
from pleinair.runtime import families
from pleinair.runtime.graphs.shared_rows import SharedRows


def job(model: Path, **changes: Any) -> dict[str, Any]:
    return {
        "model": str(model),
        "engine": "openvino",
        "device": "cpu",
        "precision": "f32",
        "way": "exact",
        "prompt": "a red apple",
        "seed": 1,
        "width": 64,
        "height": 64,
        "num_inference_steps": 3,
        "guidance_scale": 7.5,
        "num_images_per_prompt": 1,
        "scheduler": "ddim",
        "threads": 1,
        "warm_up": 2,
        "repeats": 1,
        **changes,
    }


def watch() -> Watch:
    return Watch(time.perf_counter(), io.StringIO())


def count(job: dict[str, Any]) -> list[dict[str, Any]]:
    graphs: list[dict[str, Any]] = tally.tally(job, watch())["graphs"]
    return graphs


def unet(file: Path, rows: int) -> Any:
    model = openvino.Core().read_model(file)
    prompts = {"encoder_hidden_states": [rows, 77, 128]}
    model.reshape({"sample": [rows, 4, 8, 8], "timestep": [1], **prompts})
    return model


def test_it_counts_the_graphs_that_a_picture_takes(exported_openvino: Path) -> None:
    graphs = {graph["part"]: graph for graph in count(job(exported_openvino, way="scheduler=ddim"))}
    assert {name: graph["evaluations"] for name, graph in graphs.items()} == {
        "text_encoder": 2,
        "unet": 3,
        "vae_decoder": 1,
    }
    file = exported_openvino / "unet" / "openvino_model.xml"
    shared = SharedRows(("sample", "timestep")).openvino(unet(file, 2))
    assert graphs["unet"]["flops"]["total"] == flops.count(shared).total
    assert graphs["vae_decoder"]["flops"]["convolution"] > 0


def test_without_guidance_half_of_it_is_left(exported_openvino: Path) -> None:
    both, one = (
        next(graph for graph in count(job(exported_openvino, way=way)) if graph["part"] == "unet")
        for way in ("guidance_scale=7.5", "guidance_scale=1")
    )
    alone = flops.count(unet(exported_openvino / "unet" / "openvino_model.xml", 1)).total
    assert one["flops"]["total"] == alone
    assert 1.9 * alone < both["flops"]["total"] < 2 * alone


def test_its_graphs_are_those_of_the_timed_run(exported_openvino: Path) -> None:
    counted = count(job(exported_openvino))
    timed = painting.paint(job(exported_openvino, num_images_per_prompt=2, repeats=2), watch())
    assert [(g["part"], g["key"]) for g in timed["graphs"]] == [
        (g["part"], g["key"]) for g in counted
    ]
    evaluations = {graph["part"]: len(graph["seconds"]) for graph in timed["graphs"]}
    assert evaluations == {"text_encoder": 4, "unet": 12, "vae_decoder": 4}  # no warm-up among them
    assert len(timed["pictures"]) == 2
    assert len(timed["pictures"][0]["steps"]) == 6
    assert {"open", "load", "encode", "denoise", "decode"} >= set(timed["memory"])


def test_a_model_that_paints_from_a_picture_is_given_one(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = families.open_model(exported_openvino)
    monkeypatch.setattr(type(family), "inpaints", True)
    given = painting.arguments(job(exported_openvino), family)
    assert given["image"].size == given["mask_image"].size == (64, 64)
    way = job(exported_openvino, way="exact,image=a.png")
    assert painting.arguments(way, family)["image"] == "a.png"
