"""`quality` from the command line: what it measures, its sheet, and what goes wrong."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pleinair.bench import quality, way
from pleinair.bench.__main__ import main
from pleinair.bench.clip_score import ClipScore
from pleinair.bench.similarity import ssim
from pleinair.runtime.errors import EngineError
from pleinair.runtime.images.similarity import psnr

SMALL = ["--size", "32", "--steps", "2", "--number", "3", "--scheduler", "ddim"]


def _command(model: Path, *more: str) -> list[str]:
    return ["quality", str(model), *SMALL, *more]


class Painter:
    """Stands in for a pipeline: a picture's grey is its seed, and `more` if the way says so."""

    def __init__(self, more: int = 0, side: int = 32) -> None:
        self.more, self.side = more, side
        self.asked: list[tuple[str, int]] = []

    def __call__(self, prompt: str, *, seed: int, **settings: Any) -> Any:
        self.asked.append((prompt, seed))
        dots = np.full((self.side, self.side, 3), 100 + seed + self.more, np.uint8)
        dots[: seed + 3] += 20
        return SimpleNamespace(images=[Image.fromarray(dots)])


def _painters(monkeypatch: pytest.MonkeyPatch, **painters: Any) -> None:
    def opened(self: way.Way, model: str, **options: Any) -> Any:
        painter = painters[self.name]
        if isinstance(painter, BaseException):
            raise painter
        return painter

    monkeypatch.setattr(way.Way, "open", opened)


def test_for_real(exported_openvino: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"quality.{name}" for name in ("json", "md", "png")}
    command = _command(
        exported_openvino, "--ways", "exact", "num_inference_steps=3", "exact,tile=none"
    )
    command += ["--json", str(files["json"]), "--markdown", str(files["md"])]
    assert main([*command, "--sheet", str(files["png"])]) == 0
    found = json.loads(files["json"].read_text(encoding="utf-8"))
    assert list(found["ways"]) == ["exact", "num_inference_steps=3", "exact,tile=none"]
    changed = found["ways"]["num_inference_steps=3"]["PSNR dB"]
    assert len(changed["values"]) == 3
    assert changed["quartile1"] <= changed["median"] <= changed["quartile3"] < 100
    assert found["ways"]["exact,tile=none"]["PSNR dB"]["median"] is None  # infinite: identical
    assert found["ways"]["exact,tile=none"]["SSIM"]["median"] == pytest.approx(1.0)
    assert "identical (identical to identical)" in files["md"].read_text(encoding="utf-8")
    with Image.open(files["png"]) as sheet:
        assert sheet.width > 3 * 256
        assert sheet.height > 3 * 256


def test_same_prompts_and_seeds_picture_by_picture(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, fast = Painter(), Painter(more=4)
    _painters(monkeypatch, exact=exact, fast=fast)
    (tmp_path / "prompts.txt").write_text("a cat\n\n a dog \n", encoding="utf-8")
    more = ["--ways", "exact", "fast", "--prompts", str(tmp_path / "prompts.txt"), "--seed", "7"]
    file = tmp_path / "quality.json"
    assert main(_command(exported_openvino, *more, "--json", str(file))) == 0
    assert exact.asked == fast.asked == [("a cat", 7), ("a dog", 8), ("a cat", 9)]
    found = json.loads(file.read_text(encoding="utf-8"))["ways"]
    assert found["exact"] == {}
    assert found["fast"]["PSNR dB"]["median"] == pytest.approx(20 * np.log10(255 / 4))
    pair = [np.asarray(painter("", seed=8).images[0]) for painter in (Painter(more=4), Painter())]
    assert found["fast"]["SSIM"]["values"][1] == pytest.approx(ssim(*pair))
    assert found["fast"]["PSNR dB"]["values"][1] == pytest.approx(psnr(*pair))


def test_a_way_that_fails_or_does_not_fit_is_named(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = EngineError("holds no unet_int8")
    _painters(
        monkeypatch,
        exact=Painter(),
        balanced=broken,
        fast=Painter(side=64),
        **{"vae=tiny": Painter(1)},
    )
    more = ["--ways", "exact", "balanced", "fast", "vae=tiny"]
    assert main(_command(exported_openvino, *more)) == 0
    shown = capsys.readouterr().out
    assert "balanced: skipped: holds no unet_int8" in shown
    assert "fast: skipped: it paints 64x64 where the first way paints 32x32" in shown
    assert "| vae=tiny | 48.13 (48.13 to 48.13) |" in shown


def test_without_the_reference_there_is_nothing(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _painters(monkeypatch, exact=EngineError("no memory"), fast=Painter())
    assert main(_command(exported_openvino, "--ways", "exact", "fast")) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "pleinair.bench: no memory"


def test_interrupted_it_shows_the_ways_that_are_whole(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    painters = {"exact": Painter(), "balanced": Painter(more=1), "fast": KeyboardInterrupt()}
    _painters(monkeypatch, **painters)
    assert main(_command(exported_openvino, "--ways", *painters)) == 130
    shown = capsys.readouterr().out
    assert "| balanced | 48.13" in shown
    assert "fast" not in shown
    _painters(monkeypatch, exact=KeyboardInterrupt())
    assert main(_command(exported_openvino)) == 130


def test_clip_score_is_transformers_own(tmp_path: Path, exported_openvino: Path) -> None:
    """A tiny random CLIP: our preprocessing, and its own image processor and logits."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    from checkpoints import clip_tokenizer

    folder = tmp_path / "clip"
    tokens = clip_tokenizer(folder)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    small["num_attention_heads"] = 2
    ends = {"bos_token_id": tokens - 2, "eos_token_id": tokens - 1}
    text = {**small, **ends, "vocab_size": tokens, "max_position_embeddings": 77}
    vision = {**small, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval()
    model.save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    processor.save_pretrained(folder)
    random = np.random.default_rng(0)
    pictures = [Image.fromarray(random.integers(0, 256, (48, 40, 3), np.uint8)) for _ in "ab"]
    prompts = ["a red apple", "a very long prompt " * 40]
    words = CLIPTokenizer.from_pretrained(folder)(
        prompts, padding=True, truncation=True, max_length=77, return_tensors="pt"
    )
    with torch.no_grad():
        dots = processor(pictures, return_tensors="pt")
        logits = model(**words, **dots).logits_per_image.diagonal() / model.logit_scale.exp()
    expected = [max(100 * float(cosine), 0.0) for cosine in logits]
    assert ClipScore.open(folder)(prompts, pictures) == pytest.approx(expected, abs=0.05)
    file = tmp_path / "quality.json"
    more = ["--ways", "exact", "--clip", str(folder), "--json", str(file)]
    assert main(_command(exported_openvino, *more)) == 0
    found = json.loads(file.read_text(encoding="utf-8"))["ways"]["exact"]
    assert len(found["CLIP score"]["values"]) == 3


def test_recognition_is_that_of_the_models_own_judge(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coded pictures: a judge that reads everything from a picture's grey."""
    from pleinair.models.pocket.training import evaluate
    from pleinair.models.pocket.training.judge import HEADS, Reading

    def read(pictures: Any) -> Reading:
        greys = np.array([float(np.mean(picture)) for picture in pictures])
        scores = {
            head: np.stack([np.cos(greys * (1 + i)) for i in range(len(classes))], axis=1)
            for head, classes in HEADS.items()
        }
        return Reading(scores, np.stack([greys, greys**2 / 100], axis=1))

    def render(scene: Any, icons: Any, random: np.random.Generator, size: int) -> np.ndarray:
        return np.full((size, size, 3), random.integers(100, 140), np.uint8)

    monkeypatch.setattr(evaluate, "load_classifier", lambda: SimpleNamespace(read=read))
    monkeypatch.setattr(evaluate, "open_icons", lambda: None)
    monkeypatch.setattr(evaluate, "render", render)
    exact, same, fast = Painter(), Painter(), Painter(more=30)
    _painters(monkeypatch, **{"exact": exact, "vae=full": same, "fast": fast})
    file, tables = tmp_path / "quality.json", tmp_path / "quality.md"
    more = ["--ways", "exact", "vae=full", "fast", "--recognition", "--number", "24"]
    more += ["--json", str(file), "--markdown", str(tables)]
    assert main(_command(exported_openvino, *more)) == 0
    assert [prompt for prompt, _ in exact.asked] == [
        prompt.text for prompt, _ in zip(evaluate.prompts(), range(24), strict=False)
    ]
    found = json.loads(file.read_text(encoding="utf-8"))["recognition"]
    assert found["exact"]["right"] == found["vae=full"]["right"]
    assert found["vae=full"]["frechet_change_interval95"] == [0.0, 0.0]
    low, high = found["fast"]["frechet_change_interval95"]
    change = found["fast"]["frechet"]["painted"] - found["exact"]["frechet"]["painted"]
    assert low < change < high
    assert low > 0  # 30 levels lighter than exact, which is as light as the renders
    assert found["fast"]["compared"]["top1, all"]["interval95"]
    assert "| way | top-1 seen | held-out | all |" in tables.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--number", "0"], "number is 0"),
        (["--size", "33"], "multiple of 8"),
        (["--ways", "exact", "stepz=2"], "is no setting"),
        (["--prompts", "nowhere.txt"], "cannot be read"),
        (["--prompts", "empty.txt"], "holds no prompt"),
        (["--clip", "nowhere"], "give the folder of a CLIP model"),
        (["--sheet", "old.png"], "exists"),
    ],
)
def test_a_mistake_is_one_line(
    more: list[str],
    words: str,
    exported_openvino: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.png").write_bytes(b"mine")
    (tmp_path / "empty.txt").write_text("\n \n", encoding="utf-8")
    _painters(monkeypatch)
    assert main(_command(exported_openvino, *more)) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert (tmp_path / "old.png").read_bytes() == b"mine"


def test_prompts_begin_again_with_other_seeds(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painter, number = Painter(), len(quality.PROMPTS) + 1
    _painters(monkeypatch, exact=painter)
    assert main(_command(exported_openvino, "--ways", "exact", "--number", str(number))) == 0
    assert [seed for _, seed in painter.asked] == list(range(number))
    found = [prompt for prompt, _ in painter.asked]
    assert found[-1] == found[0] == quality.PROMPTS[0]
