"""The safety checker's arithmetic, and when one is asked at all."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import Counting, model_folder, written
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.model.bundle import Bundle
from pleinair.runtime.model.safety import (
    SafetyChecker,
    Thresholds,
    Verdict,
    blurred,
    chosen,
    tell_of_unused,
)

CONFIG = {"concept_embeds_weights": [0.2, 0.3], "special_care_embeds_weights": [0.5]}


def verdict(cosines: Any, special: Any = (0,)) -> Verdict:
    thresholds = Thresholds.of(CONFIG)
    return thresholds.verdict(np.asarray(cosines, np.float32), np.asarray(special, np.float32))


def test_below_all_thresholds_there_is_no_objection() -> None:
    found = verdict([0.1, 0.29])
    assert not found.nsfw
    assert found == Verdict((), ())
    assert str(found) == ""


def test_a_finding_says_cosine_and_threshold() -> None:
    found = verdict([0.25, 0.1])
    assert found.nsfw
    (finding,) = found.findings
    assert finding.concept == 0
    assert finding.score == pytest.approx(0.25)
    assert finding.threshold == pytest.approx(0.2)
    assert str(found) == "concept 0 scores 0.250 over 0.200"


def test_special_care_lowers_all_thresholds() -> None:
    assert not verdict([0.195, 0.1]).nsfw
    found = verdict([0.195, 0.1], [0.6])
    assert found.special_care == (0,)
    assert [one.concept for one in found.findings] == [0]
    assert "(lowered by 0.01 for special care 0)" in str(found)


def test_scores_are_rounded_to_three_digits_as_in_diffusers() -> None:
    assert not verdict([0.2004, 0]).nsfw
    assert verdict([0.2006, 0]).nsfw


def test_the_checker_is_shown_a_preprocessed_picture() -> None:
    outputs = {"cos_dist": np.array([[0.25, 0]]), "special_cos_dist": np.array([[0.0]])}
    graph = Counting(lambda feeds: outputs)
    shown: list[Any] = []
    preprocess = SimpleNamespace(crop=(3, 3))

    def prepared(picture: Any) -> Any:
        shown.append(picture)
        return np.zeros((1, 3, 3, 3), np.float32)

    checker = SafetyChecker(graph, prepared, Thresholds.of(CONFIG))
    picture = Image.new("RGB", (8, 8))
    assert checker(picture).nsfw
    assert shown == [picture]
    assert graph.fed[0]["clip_input"].shape == (1, 3, *preprocess.crop)


def bundle(folder: Path, checker: dict[str, Any] | None) -> Bundle:
    parts = ("vae_encoder",) if checker is None else ("vae_encoder", "safety_checker")
    model_folder(folder, parts=parts)
    if checker is not None:
        written(folder / "safety_checker" / "config.json", checker)
    return Bundle.open(folder)


def test_a_model_with_a_checker_asks_it_unless_told_otherwise(tmp_path: Path) -> None:
    with_one = bundle(tmp_path / "with", CONFIG)
    found = [chosen(with_one, safety, "openvino") for safety in (None, "on", "blur", "off")]
    assert found == ["on", "on", "blur", "off"]


def test_a_model_without_one_cannot_be_asked(tmp_path: Path) -> None:
    without = bundle(tmp_path / "without", None)
    assert chosen(without, None, "openvino") == chosen(without, "off", "openvino") == "off"
    with pytest.raises(SettingError, match="without has no safety checker, so safety cannot be on"):
        chosen(without, "on", "openvino")


def test_one_in_another_format_alone_is_not_passed_over(tmp_path: Path) -> None:
    with_one = bundle(tmp_path / "with", CONFIG)
    assert chosen(with_one, "off", "onnx") == "off"
    with pytest.raises(BundleError, match="with: holds no safety_checker as onnx"):
        chosen(with_one, None, "onnx")


def test_a_checker_that_cannot_say_why_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = bundle(tmp_path / "older", {})
    assert chosen(older, None, "openvino") == "off"
    with caplog.at_level(logging.WARNING, "pleinair"):
        tell_of_unused(older)
    assert "older: its safety checker decides inside its graph" in caplog.text
    caplog.clear()
    tell_of_unused(bundle(tmp_path / "with", CONFIG))
    tell_of_unused(bundle(tmp_path / "without", None))
    assert not caplog.records


def test_of_a_blurred_picture_the_colours_are_left() -> None:
    pixels = np.zeros((48, 96, 3), np.float32)
    pixels[::2, ::2] = 1
    found = blurred(pixels)
    assert found.shape == pixels.shape
    assert found.dtype == np.float32
    assert found[12:-12, 12:-12].std() < 0.01
    assert found.mean() == pytest.approx(0.25, abs=0.02)
