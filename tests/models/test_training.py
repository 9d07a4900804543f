"""The training code's small parts, each against its definition."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from pleinair.models.pocket.training import data, pictures, tokenizer
from pleinair.models.pocket.training.captions import in_chinese, in_english, plural
from pleinair.models.pocket.training.clock import Clock
from pleinair.models.pocket.training.diffusion import min_snr_loss, spread_timesteps
from pleinair.models.pocket.training.loop import learning_rate
from pleinair.models.pocket.training.scenes import HELD_OUT, Scene, draw_held_out, draw_seen
from pleinair.models.pocket.training.vocabulary import BACKGROUNDS, STYLES, SUBJECTS
from pleinair.runtime.text.tokenizer import ClipTokenizer

APPLE = Scene(("red apple",), "noto", "light blue")
PAIR = Scene(("cat face", "pizza"), "flat", "white")


def said(say, scene: Scene, **parts: bool) -> set[str]:
    return {say(Random(seed), scene, **parts) for seed in range(200)}


def test_english_captions_say_what_they_are_given() -> None:
    nouns = ("red apple", "a red apple", "apple", "an apple")
    assert said(in_english, APPLE, style=False, background=False) == set(nouns)
    assert said(in_english, APPLE, style=True, background=True) == {
        f"{noun}{style}{comma} on a light blue background"
        for noun in nouns
        for style in (", noto style", " in noto style")
        for comma in ("", ",")
    }
    assert "a cat and a pizza" in said(in_english, PAIR, style=False, background=False)
    three = Scene(("star",) * 3, "noto", "white")
    assert said(in_english, three, style=False, background=False) == {
        f"{number} {noun}" for number in ("three", "3") for noun in ("stars", "yellow stars")
    }


def test_chinese_captions_say_what_they_are_given() -> None:
    rocket = Scene(("rocket",), "twemoji", "blue")
    assert "蓝色背景上的火箭" in said(in_chinese, rocket, style=False, background=True)
    assert "火箭，蓝色背景，twemoji风格" in said(in_chinese, rocket, style=True, background=True)
    assert "猫和披萨" in said(in_chinese, PAIR, style=False, background=False)
    assert "两个星星" in said(
        in_chinese, Scene(("star",) * 2, "noto", "white"), style=False, background=False
    )


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("star", "stars"),
        ("bunch of grapes", "bunches of grapes"),
        ("cup with straw", "cups with straw"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("tropical fish", "tropical fish"),
        ("bus", "buses"),
        ("octopus", "octopuses"),
        ("scissors", "scissors"),
        ("wine glass", "wine glasses"),
        ("tomato", "tomatoes"),
        ("maple leaf", "maple leaves"),
        ("fox", "foxes"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_every_subject_is_told_from_the_others() -> None:
    english = [name for thing, facts in SUBJECTS.items() for name in (thing, *facts["also"])]
    chinese = [name for facts in SUBJECTS.values() for name in facts["zh"]]
    assert len(english) == len(set(english))
    assert len(chinese) == len(set(chinese))
    assert len(SUBJECTS) >= 300
    assert len(STYLES) == 4


@pytest.mark.parametrize("kind", HELD_OUT)
def test_scenes_are_of_their_kind_and_seen_or_not(kind: str) -> None:
    random = Random(0)
    seen, unseen = ([draw(random, kind) for _ in range(300)] for draw in (draw_seen, draw_held_out))
    assert {scene.kind for scene in seen + unseen} == {kind}
    assert not any(scene.held_out for scene in seen)
    assert all(scene.held_out for scene in unseen)


def test_a_pair_is_held_out_in_either_order_and_on_every_ground() -> None:
    random = Random(1)
    for _ in range(300):
        pair = draw_seen(random, "pair")
        assert not Scene(pair.things[::-1], "noto", "black").held_out


def test_the_held_out_share_is_as_stated() -> None:
    every = [
        Scene((thing,), style, ground)
        for thing in SUBJECTS
        for style in STYLES
        for ground in BACKGROUNDS
    ]
    share = sum(scene.held_out for scene in every) / len(every)
    assert share == pytest.approx(1 / HELD_OUT["single"], rel=0.1)


class OneColour:
    """Stand-ins for icons: a filled square, red for the apple, green for all else."""

    def get(self, thing: str, style: str) -> Image.Image:
        rgba = (255, 0, 0, 255) if thing == "red apple" else (0, 255, 0, 255)
        return Image.new("RGBA", (96, 96), rgba).convert("RGBa")


@pytest.mark.parametrize("size", [64, 128])
def test_things_stand_from_left_to_right_on_their_ground(size: int) -> None:
    scene = Scene(("red apple", "pizza"), "noto", "blue")
    picture = pictures.render(scene, OneColour(), np.random.default_rng(0), size)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == BACKGROUNDS["blue"]["rgb"]
    assert picture[size // 2, size // 4].tolist() == [255, 0, 0]
    assert picture[size // 2, 3 * size // 4].tolist() == [0, 255, 0]
    assert picture[size // 8, size // 4].tolist() == BACKGROUNDS["blue"]["rgb"]


def test_half_transparent_icons_mix_with_the_ground() -> None:
    grey = Image.fromarray(np.full((96, 96, 4), (50, 50, 50, 128), np.uint8), "RGBA")
    icon = pictures.as_image(np.asarray(grey))  # premultiplied: half of (100, 100, 100)
    picture = pictures.lay([icon], [(0.5, 0.5, 0.5)], np.array([200.0, 0.0, 0.0]), 64)
    assert picture[32, 32] == pytest.approx([50 + 200 * 127 / 255, 50, 50], abs=1)


def test_a_changed_archive_stops_the_data_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "WORK", tmp_path)
    packages = {
        f"node_modules/{name}": {"version": version, "integrity": integrity}
        for name, (version, integrity) in data.PACKAGES.items()
    }
    lock = tmp_path / "node_modules" / ".package-lock.json"
    lock.parent.mkdir()
    lock.write_text(json.dumps({"packages": packages}))
    data.check_integrity()
    packages["node_modules/emojibase-data"]["integrity"] = "sha512-another"
    lock.write_text(json.dumps({"packages": packages}))
    with pytest.raises(SystemExit, match="emojibase-data"):
        data.check_integrity()


def test_a_name_is_the_same_token_alone_and_in_a_phrase(pocket_tokenizer: Path) -> None:
    """Merges that reached across names would give one another token in every context."""
    ours = ClipTokenizer(pocket_tokenizer)

    def ids(text: str) -> list[int]:
        tokens = ours(text)
        return tokens.ids[0, 1 : tokens.count - 1].tolist()

    names = [name for facts in SUBJECTS.values() for name in facts["zh"]]
    alone = [ids(name) for name in names]
    ground = ids("蓝色背景上的猫")[:-1]
    in_phrase = [ids(f"蓝色背景上的{name}") for name in names]
    same = [phrase == [*ground, *name] for phrase, name in zip(in_phrase, alone, strict=True)]
    assert np.mean([len(name) == 1 for name in alone]) > 0.95
    assert np.mean(same) > 0.95


def test_ids_are_those_of_transformers(pocket_tokenizer: Path) -> None:
    reference = CLIPTokenizer.from_pretrained(pocket_tokenizer)
    ours = ClipTokenizer(pocket_tokenizer)
    for text in (
        "Two red apples, noto style",
        "浅绿色背景上的红苹果和火箭，twemoji风格",
        "café ☕",
    ):
        expected = reference(text, padding="max_length", max_length=77).input_ids
        assert ours(text).ids[0].tolist() == expected


def test_bytes_have_their_symbols() -> None:
    symbols = tokenizer.byte_symbols()
    assert len(set(symbols)) == 256
    assert dict(zip(tokenizer.clip_byte_order(), symbols, strict=True))[ord("a")] == "a"


def test_timesteps_cover_the_schedule_evenly() -> None:
    steps = spread_timesteps(100)
    assert torch.equal(steps // 10, torch.arange(100))


def test_min_snr_weighs_clear_pictures_less() -> None:
    """Hang et al. 2023: min(SNR, 5) / SNR for epsilon prediction."""
    error = torch.ones(1, 4, 2, 2)
    nothing = torch.zeros_like(error)
    for snr, weight in ((100.0, 0.05), (5.0, 1.0), (0.1, 1.0)):
        alphas_cumprod = torch.tensor([snr / (1 + snr)])
        assert min_snr_loss(error, nothing, alphas_cumprod).item() == pytest.approx(
            weight, rel=1e-3
        )


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate(1.0, share / 10, 1000) for share in range(11)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.05
    assert learning_rate(1.0, 0.0, 0) < 0.05


def test_a_pause_does_not_eat_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(minutes=1.0)
    for pause in (1, 1, 1, 600, 1):
        now[0] += pause
        clock.tick()
    assert clock.spent < 15
