"""Further wordings, the list of known words, and the text encoder's second training."""

from pathlib import Path
from random import Random

import pytest
import torch
from transformers import CLIPTokenizer

import checkpoints
from pleinair.models.pocket.training import text_distillation
from pleinair.models.pocket.training.captions import caption
from pleinair.models.pocket.training.evaluate import further_prompts
from pleinair.models.pocket.training.listing import listing
from pleinair.models.pocket.training.phrasings import (
    CHINESE_COLOURS,
    Phrasing,
    coloured,
    own_colours,
    phrasing,
)
from pleinair.models.pocket.training.scenes import Scene, draw_seen
from pleinair.models.pocket.training.text_distillation import (
    Attended,
    TextDistillation,
    Wordings,
    collect_queries,
)
from pleinair.models.pocket.training.vocabulary import BACKGROUNDS, FURTHER_NAMES, STYLES, SUBJECTS
from pleinair.runtime.text.known_words import KnownWords

POCKET = Path(__file__).parents[2] / "models" / "pocket"


def wordings(scene: Scene, **said: bool) -> list[Phrasing]:
    return [phrasing(Random(seed), scene, **said) for seed in range(400)]


@pytest.mark.parametrize(
    ("thing", "colour", "painted"),
    [
        ("red apple", "green", "green apple"),
        ("green apple", "red", "red apple"),
        ("automobile", "blue", "automobile"),
        ("red heart", "blue", "blue heart"),
        ("broken heart", "blue", "broken heart"),
        ("star", "yellow", "star"),
    ],
)
def test_a_colour_is_of_the_drawing_or_of_nothing(thing: str, colour: str, painted: str) -> None:
    assert coloured(thing, colour) == painted


def test_own_colours() -> None:
    assert own_colours("red apple") == ["red", "green"]
    assert own_colours("automobile") == []


def test_a_wording_is_of_the_thing_that_its_caption_names() -> None:
    found = wordings(Scene(("automobile",), "flat", "white"), style=False, background=False)
    assert {one.caption for one in found} == {"a car", "an automobile", "汽车"}
    assert {one.scene.things for one in found} == {("automobile",)}
    texts = {one.text for one in found}
    assert {"the car", "the automobile"} & texts
    assert any(text.startswith("一") and "色的" in text for text in texts)


def test_a_colour_may_make_it_another_thing() -> None:
    found = wordings(Scene(("red apple",), "flat", "white"), style=False, background=False)
    green = [one for one in found if one.scene.things == ("green apple",)]
    assert green
    for one in green:
        assert one.caption in {"a green apple", "青苹果"}
        assert "green" in one.text or "绿" in one.text


def test_style_and_ground_are_in_text_and_caption() -> None:
    for one in wordings(Scene(("cat face", "pizza"), "noto", "pink"), style=True, background=True):
        zh = one.language == "zh"
        assert "noto" in one.text
        assert ("noto风格" if zh else "noto style") in one.caption
        assert any(name in one.text for name in ("粉", "pink"))
        assert ("粉色背景" if zh else "a pink background") in one.caption


def test_counts_and_measures() -> None:
    found = wordings(Scene(("dog face",) * 2, "flat", "white"), style=False, background=False)
    assert {one.caption for one in found} <= {
        "two dogs",
        "two dog faces",
        *(f"两个{name}" for name in SUBJECTS["dog face"]["zh"]),
    }
    assert any(one.text.startswith("两只") for one in found)


def test_further_names_are_of_known_things_and_new() -> None:
    assert set(FURTHER_NAMES) <= set(SUBJECTS)
    known = [name for thing, its in SUBJECTS.items() for name in (thing, *its["also"], *its["zh"])]
    further = [name for its in FURTHER_NAMES.values() for name in (*its["en"], *its["zh"])]
    assert len(set(further)) == len(further)
    assert not set(further) & set(known)
    assert set(CHINESE_COLOURS) == set(BACKGROUNDS)


def test_the_further_prompts_are_the_same_each_time() -> None:
    first, second = further_prompts(), further_prompts()
    assert [next(first) for _ in range(24)] == [next(second) for _ in range(24)]


# The list of known words.


@pytest.fixture(scope="module")
def vocabulary() -> KnownWords:
    found = KnownWords.of(POCKET)
    assert found is not None
    return found


def test_the_folder_lists_the_words_of_training(vocabulary: KnownWords) -> None:
    written = listing()
    assert {kind: dict(names) for kind, names in vocabulary.names.items()} == written["names"]
    assert set(vocabulary.names["things"]) == set(SUBJECTS)
    assert set(vocabulary.names["styles"]) == set(STYLES)


def test_every_caption_of_training_is_known(vocabulary: KnownWords) -> None:
    random = Random(0)
    for kind in ("single", "pair", "count") * 200:
        words = caption(random, draw_seen(random, kind))
        assert vocabulary.unknown(words) == [], words


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a red apple on a light blue background, noto style", []),
        ("two cats and a dog", []),
        ("a cat, oil painting", ["oil painting"]),
        ("a blue car", ["blue"]),
        ("a grey background, three bunnies", []),
        ("a picture of the boats on red", []),
        ("five cats", ["five"]),
        ("a cat behind a house", ["behind"]),
        ("一只红色的苹果", []),
        ("红苹果", []),
        ("两只小猫，flat风格", []),
        ("在浅蓝色背景上的一颗黄色的星星", []),
        ("一辆蓝色的汽车", ["蓝色"]),
        ("一只黑猫，背景是蓝色", ["黑"]),
        ("一只猫在桌子上", ["桌子"]),
        ("绿心和红灯笼", []),
        ("绿色的心和青苹果", ["绿色"]),
    ],
)
def test_what_the_model_does_not_know(
    vocabulary: KnownWords, prompt: str, unknown: list[str]
) -> None:
    assert vocabulary.unknown(prompt) == unknown


# The text encoder's second training.


@pytest.fixture(scope="module")
def clip_tokenizer(pocket_tokenizer: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(pocket_tokenizer)


@pytest.fixture
def distillation(
    clip_tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> TextDistillation:
    monkeypatch.setattr(text_distillation, "PAINTED", 2)
    monkeypatch.setattr(text_distillation, "STEPS", 2)
    torch.manual_seed(0)
    encoder = checkpoints.tiny_text_encoder(len(clip_tokenizer))
    unet = checkpoints.tiny_unet().requires_grad_(False)
    return TextDistillation(encoder, collect_queries(unet, encoder, clip_tokenizer))


def test_a_layer_reads_what_the_unet_reads() -> None:
    torch.manual_seed(0)
    unet = checkpoints.tiny_unet().eval()
    names = [name for name, _ in unet.named_modules() if name.endswith("attn2")]
    layer = unet.get_submodule(names[0])
    states = torch.randn(1, 24, layer.to_q.in_features)
    text = torch.randn(2, 77, layer.to_k.in_features)
    attended = Attended(layer, layer.to_q(states)[0].detach())
    reference = layer(states.expand(2, -1, -1), encoder_hidden_states=text)
    torch.testing.assert_close(attended(text), reference, rtol=0, atol=1e-5)


def test_batches_keep_captions_and_pair_wordings(clip_tokenizer: CLIPTokenizer) -> None:
    data = Wordings(clip_tokenizer)
    data.seed(0)
    lengths = set()
    for _ in range(8):
        texts, captions, kept = data.batch(20)
        lengths.add(texts.shape[1])
        assert texts.shape == captions.shape
        assert torch.equal(kept, (texts == captions).all(1))
        assert 8 <= kept.sum() < 20
        assert clip_tokenizer.decode(texts[0], skip_special_tokens=True) == ""
    assert lengths == {40, 77}


def test_a_student_that_is_its_teacher_differs_in_new_wordings_alone(
    distillation: TextDistillation, clip_tokenizer: CLIPTokenizer
) -> None:
    data = Wordings(clip_tokenizer)
    data.seed(0)
    found = distillation.losses(*data.batch(20))
    assert found["same"] == 0
    assert found["told"] > 0


def test_it_learns(distillation: TextDistillation, clip_tokenizer: CLIPTokenizer) -> None:
    data = Wordings(clip_tokenizer)
    data.seed(0)
    batch = data.batch(12)
    teacher = [parameter.clone() for parameter in distillation.teacher.parameters()]
    optimizer = torch.optim.Adam(distillation.student.parameters(), lr=2e-5)
    first = distillation.losses(*batch)["loss"].item()
    for _ in range(8):
        optimizer.zero_grad()
        loss = distillation.losses(*batch)["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.95 * first
    assert all(map(torch.equal, teacher, distillation.teacher.parameters()))
