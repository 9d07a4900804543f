"""The safety checker decides as diffusers, on both engines; what becomes of a picture is told."""

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import checkpoints
from pictures import painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.errors import SettingError
from pleinair.runtime.images.clip import ClipPreprocessor
from pleinair.runtime.model.safety import SafetyChecker, Thresholds

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK = {"num_inference_steps": 2, "width": 64, "height": 64, "scheduler": "ddim"}
SEEDS = (1, 2, 3, 4)
CONCEPTS, CARE = "concept_embeds_weights", "special_care_embeds_weights"


def image_processor(config: dict[str, Any]) -> Any:
    try:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    except ImportError:  # transformers before 5.6
        from transformers import CLIPImageProcessor as CLIPImageProcessorPil  # type: ignore
    return CLIPImageProcessorPil(**config)


@pytest.mark.parametrize("size", [(64, 64), (72, 104), (300, 200), (512, 511)], ids=str)
def test_pictures_are_made_ready_as_by_transformers(size: tuple[int, int]) -> None:
    config = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    theirs = image_processor(config)(painting(*size), return_tensors="np").pixel_values
    ours = ClipPreprocessor.of(config)(painting(*size))
    assert ours.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    older = {"size": 224, "crop_size": 224, "resample": 3, "do_resize": True}
    assert np.array_equal(ClipPreprocessor.of(older)(painting(*size)), ours)


def test_decisions_are_diffusers() -> None:
    """Of many inputs, with thresholds in the middle, special care included."""
    import torch

    checker = checkpoints.safety_checker(seed=3)
    random = torch.Generator().manual_seed(0)
    inputs = 3 * torch.randn(64, 3, 32, 32, generator=random)
    with torch.no_grad():
        embedding = checker.visual_projection(checker.vision_model(inputs)[1])
    normalize = torch.nn.functional.normalize
    cosines, cared = (
        (normalize(embedding) @ normalize(concepts).T).numpy()
        for concepts in (checker.concept_embeds.data, checker.special_care_embeds.data)
    )
    checker.concept_embeds_weights.data.fill_(2)
    checker.concept_embeds_weights.data[5] = float(np.median(cosines[:, 5]) + 0.005)
    checker.special_care_embeds_weights.data.fill_(2)
    checker.special_care_embeds_weights.data[1] = float(np.median(cared[:, 1]))
    _, theirs = checker(inputs, np.ones((64, 8, 8, 3)))
    thresholds = Thresholds.of({name: getattr(checker, name).tolist() for name in (CONCEPTS, CARE)})
    verdicts = [thresholds.verdict(*pair) for pair in zip(cosines, cared, strict=True)]
    assert [verdict.nsfw for verdict in verdicts] == theirs
    assert len(set(theirs)) == 2
    assert {bool(verdict.special_care) for verdict in verdicts} == {True, False}
    told = next(str(verdict) for verdict in verdicts if verdict.nsfw and verdict.special_care)
    assert told.startswith("concept 5 scores ")
    assert told.endswith("(lowered by 0.01 for special care 1)")


def with_thresholds(pipe: StableDiffusionPipeline, concept: float) -> StableDiffusionPipeline:
    """The same pipeline, its first concept's threshold that, the others out of reach."""
    facts = {CONCEPTS: [concept] + [2.0] * 16, CARE: [2.0] * 3}
    configs = {**pipe.bundle.configs, "safety_checker": facts}
    pipe.family.bundle = dataclasses.replace(pipe.bundle, configs=configs)
    return pipe


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def pipe(request: pytest.FixtureRequest, exported_guarded: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        exported_guarded, engine=request.param, device="cpu", profile="exact"
    )


def test_some_pictures_are_withheld_just_those_of_diffusers(
    pipe: StableDiffusionPipeline, guarded_checkpoint: Path
) -> None:
    import torch
    from diffusers import DDIMScheduler
    from diffusers import StableDiffusionPipeline as Diffusers

    own = checkpoints.safety_checker().concept_embeds_weights
    assert pipe.bundle.config("safety_checker")[CONCEPTS] == own.tolist()
    pictures = pipe(["boat"] * 4, seed=1, safety="off", **QUICK).images
    ask = SafetyChecker.of(pipe.bundle, pipe.parts.graph)
    scores = [
        ask.graph({"clip_input": ask.preprocess(picture)})["cos_dist"][0, 0] for picture in pictures
    ]
    middle = float(np.mean(sorted(scores)[1:3]))
    assert max(scores) - min(scores) > 0.002  # the decision rounds to three digits

    checker = checkpoints.safety_checker()
    checker.concept_embeds_weights.data = torch.tensor([middle] + [2.0] * 16)
    checker.special_care_embeds_weights.data.fill_(2)
    reference = Diffusers.from_pretrained(
        guarded_checkpoint,
        safety_checker=checker,
        feature_extractor=image_processor({"size": 32, "crop_size": 32}),
    )
    reference.set_progress_bar_config(disable=True)
    reference.scheduler = DDIMScheduler.from_config(reference.scheduler.config)
    theirs = reference(
        ["boat"] * 4,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in SEEDS],
        **{name: value for name, value in QUICK.items() if name != "scheduler"},
    )
    ours = with_thresholds(pipe, middle)(["boat"] * 4, seed=1, **QUICK)
    assert ours.nsfw_content_detected == theirs.nsfw_content_detected
    assert set(theirs.nsfw_content_detected) == {True, False}
    for image, right, unsafe in zip(
        ours.images, theirs.images, theirs.nsfw_content_detected, strict=True
    ):
        assert (image is None) == unsafe
        if image is not None:
            assert np.abs(np.asarray(image, int) - np.asarray(right, int)).max() <= 1


def test_on_off_and_blur(pipe: StableDiffusionPipeline, caplog: pytest.LogCaptureFixture) -> None:
    strict = with_thresholds(pipe, -2.0)
    caplog.set_level(logging.INFO, "pleinair")
    withheld = strict("boat", seed=7, **QUICK)
    assert withheld.images == [None]
    assert withheld.nsfw_content_detected == [True]
    (message,) = caplog.messages
    assert "the picture of seed 7 is withheld: " in message
    assert "concept 0 scores " in message
    off = strict("boat", seed=7, safety="off", **QUICK)
    assert off.nsfw_content_detected is None
    assert len(caplog.messages) == 1
    blurred = strict("boat", seed=7, safety="blur", **QUICK)
    assert blurred.nsfw_content_detected == [True]
    assert "seed 7 is blurred" in caplog.messages[1]
    sharp, soft = (np.asarray(out.images[0], float) for out in (off, blurred))
    assert soft.shape == sharp.shape
    assert soft.std() > 0  # its colours, no black square
    assert np.abs(np.diff(soft, axis=0)).mean() < np.abs(np.diff(sharp, axis=0)).mean() / 4
    for output_type, kind in (("np", type(None)), ("latent", np.ndarray)):
        other = strict("boat", seed=7, output_type=output_type, **QUICK)
        assert isinstance(other.images[0], kind)


def test_asked_for_but_not_there(exported_guarded: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported_guarded, tmp_path / "bare")
    shutil.rmtree(folder / "safety_checker")
    (folder / "pleinair.json").unlink()
    pipe = StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile="exact")
    assert pipe("boat", seed=1, **QUICK).nsfw_content_detected is None
    with pytest.raises(SettingError, match="bare has no safety checker"):
        pipe("boat", safety="blur", **QUICK)
    with pytest.raises(SettingError, match="on, blur, off"):
        pipe("boat", safety="maybe", **QUICK)


def test_an_older_checker_is_not_used_and_that_is_told(
    exported_guarded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(exported_guarded, tmp_path / "older")
    (folder / "safety_checker" / "config.json").unlink()
    (folder / "pleinair.json").unlink()
    pipe = StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile="exact")
    assert "older: its safety checker decides inside" in caplog.text
    assert pipe("boat", seed=1, **QUICK).nsfw_content_detected is None


@pytest.fixture
def strict_folder(exported_guarded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder whose checker finds everything unsafe."""
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(exported_guarded, tmp_path / "strict")
    file = folder / "safety_checker" / "config.json"
    facts = json.loads(file.read_text()) | {CONCEPTS: [-2.0] * 17}
    file.write_text(json.dumps(facts))
    (folder / "pleinair.json").unlink()
    return str(folder)


def test_the_command_line_withholds_and_says_so(strict_folder: str, capsys) -> None:
    quick = ["--model", strict_folder, "--steps", "2", "--seed", "7", "--engine", "openvino"]
    assert main([*quick, "--output", "a.png", "--preview", "live.png"]) == 3
    output = capsys.readouterr()
    assert not output.out
    assert not Path("a.png").exists()
    assert not Path("live.png").exists()  # previews are not checked
    assert "seed 7 is withheld" in output.err
    assert main([*quick, "--output", "b.png", "--safety", "blur"]) == 0
    assert "seed 7 is blurred" in capsys.readouterr().err
    assert main([*quick, "--output", "c.png", "--safety", "off"]) == 0
    assert not np.array_equal(Image.open("b.png"), Image.open("c.png"))
    assert main([*quick, "--compare", "seed=1,2", "--outdir", "sheets"]) == 3
    assert [path.name for path in Path("sheets").rglob("*.png")] == ["compare-0000.png"]


def test_a_job_is_done_with_what_it_withheld(strict_folder: str, capsys) -> None:
    Path("prompts.txt").write_text("boat\napple\n")
    job = ["--model", strict_folder, "--engine", "openvino", "--from-file", "prompts.txt"]
    job += ["--steps", "2", "--seed", "7", "--outdir", "out"]
    assert main(job) == 3
    first = capsys.readouterr()
    assert [Path(line).name for line in first.out.splitlines()] == ["grid-0000.png"]
    assert np.asarray(Image.open("out/grid-0000.png")).std() > 0  # words, and no black
    assert first.err.count("is withheld") == 2
    assert main(job) == 3
    again = capsys.readouterr()
    assert again.out == first.out
    assert "painted before" in again.err
    assert "model:" not in again.err  # nothing was opened
