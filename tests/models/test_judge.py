"""The judge of `models/pocket`: figures against references, verdicts on known painters."""

import json
import math
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from torch.nn import functional

from pleinair.models.pocket.training import classifier as classifier_module
from pleinair.models.pocket.training import evaluate as command
from pleinair.models.pocket.training.classifier import (
    UNKNOWN,
    Block,
    Classifier,
    Examples,
    load_classifier,
    report,
    write_classifier,
)
from pleinair.models.pocket.training.evaluate import (
    Evaluation,
    compare,
    compare_languages,
    decoder_error,
    distribution,
    evaluate,
    folder_digest,
    held_out_renders,
)
from pleinair.models.pocket.training.judge import (
    CENTRES,
    HEADS,
    SQUARE,
    Reading,
    Verdict,
    ground,
    judge,
    square,
)
from pleinair.models.pocket.training.metrics import (
    Pairs,
    Share,
    frechet_distance,
    wilson_interval,
)
from pleinair.models.pocket.training.pictures import place, render
from pleinair.models.pocket.training.scenes import Scene
from pleinair.models.pocket.training.vocabulary import BACKGROUNDS
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import SettingError
from pleinair.runtime.model.latent_space import LatentSpace

THINGS = HEADS["thing"]
PROMPTS = list(islice(command.prompts(), command.PROMPTS))


# Figures


@pytest.mark.parametrize(
    ("right", "number", "low", "high"),
    [  # Newcombe 1998 (Stat. Med. 17, 857), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_those_published(right: int, number: int, low: float, high: float) -> None:
    assert wilson_interval(right, number) == pytest.approx((low, high), abs=5e-5)


def test_paired_intervals_are_those_published() -> None:
    """Fagerland et al. 2014, airway hyper-responsiveness: Newcombe's interval, exact McNemar."""
    pairs = Pairs(both=1, first=1, second=7, neither=12)
    assert pairs.difference == pytest.approx(0.286, abs=5e-4)
    assert pairs.interval == pytest.approx((0.026, 0.507), abs=5e-4)
    assert pairs.p_value == pytest.approx(0.070, abs=5e-4)
    turned = Pairs(both=1, first=7, second=1, neither=12)
    assert turned.interval == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_equal_ways_differ_by_nothing() -> None:
    pairs = Pairs.of([True, False, None, True], [True, False, True, None])
    assert pairs == Pairs(1, 0, 0, 1)
    assert pairs.difference == 0.0
    assert pairs.p_value == 1.0
    assert pairs.interval[0] < 0.0 < pairs.interval[1]


def test_shares_leave_out_what_was_not_asked() -> None:
    assert Share.of([True, None, False, True]) == Share(2, 3)
    assert str(Share(81, 263)) == "30.8 (25.5 to 36.6)"
    assert str(Share(0, 0)) == "–"


def test_frechet_distance_is_that_of_the_matrix_square_root() -> None:
    random = np.random.default_rng(0)
    first, second = (random.normal(size=(200, 6)) @ random.normal(size=(6, 6)) for _ in "ab")
    second = second + 1.0
    cov1, cov2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    apart = np.sum((first.mean(0) - second.mean(0)) ** 2)
    expected = apart + np.trace(cov1 + cov2 - 2.0 * sqrtm(cov1 @ cov2)).real
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_bears_features_that_never_vary() -> None:
    random = np.random.default_rng(0)
    first = np.hstack([random.normal(size=(50, 2)), np.zeros((50, 2))])
    assert frechet_distance(first, first + 2.0) == pytest.approx(16.0)


# The prompts


def test_prompts_are_always_the_same() -> None:
    assert list(islice(command.prompts(), command.PROMPTS)) == PROMPTS
    assert list(islice(command.prompts(), 50)) == PROMPTS[:50]


def test_prompts_are_enough_of_each_kind() -> None:
    assert len(PROMPTS) >= 500
    held_out = {p.scene for p in PROMPTS if p.scene.held_out and p.scene.kind != "count"}
    assert len(held_out) >= 100
    for kind, least in (("single", 100), ("pair", 60), ("count", 30)):
        for part in (True, False):
            stratum = {p.scene for p in PROMPTS if (p.scene.kind, p.scene.held_out) == (kind, part)}
            assert len(stratum) >= least, (kind, part)
    assert sum(prompt.language == "zh" for prompt in PROMPTS) >= 100


def test_no_seen_prompt_is_held_out_and_none_comes_twice() -> None:
    """Of each round of twelve scenes the first six are seen, by training's own rule."""
    scenes = [prompt.scene for prompt in PROMPTS if prompt.language == "en"]
    assert [scene.held_out for scene in scenes] == [i % 12 >= 6 for i in range(len(scenes))]
    assert len(set(scenes)) == len(scenes)


def test_a_chinese_twin_follows_its_english_prompt() -> None:
    for before, prompt in pairwise(PROMPTS):
        if prompt.language == "zh":
            assert (before.language, before.scene) == ("en", prompt.scene)


def test_prompts_say_what_they_are_judged_by() -> None:
    for prompt in PROMPTS:
        assert (prompt.scene.style in prompt.text) == prompt.style_said
        names = {"en": prompt.scene.background, "zh": BACKGROUNDS[prompt.scene.background]["zh"]}
        assert names[prompt.language] in prompt.text or prompt.scene.background == "white"
        assert prompt.style_said or not prompt.scene.held_out
    said = sum(prompt.style_said for prompt in PROMPTS) / len(PROMPTS)
    assert 0.8 < said < 1.0


# Verdicts: pictures that write thing, style and number into their colours, and one who reads them


class CodedIcons:
    """Flat squares: red and green say the thing, blue the style and how many there are."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get(self, thing: str, style: str) -> Image.Image:
        row, column = divmod(THINGS.index(thing), 16)
        blue = 50 * HEADS["style"].index(style) + 10 * self.number
        return Image.frombytes("RGBa", (8, 8), bytes((10 * row, 15 * column, blue, 255)) * 64)


def decode(pixel: np.ndarray) -> tuple[int, int, int]:
    """Places of thing and style in their lists, and the number."""
    red, green, blue = (int(value) for value in pixel)
    style, number = divmod(blue, 50)
    return round(red / 10) * 16 + round(green / 15), style, round(number / 10)


def read_coded(pictures: Sequence[np.ndarray]) -> Reading:
    """Scores fall with the distance in the list: things two places off are among the five."""
    scores = {head: np.zeros((len(pictures), len(words))) for head, words in HEADS.items()}
    features = np.zeros((len(pictures), 2))
    grounds = [facts["rgb"] for facts in BACKGROUNDS.values()]
    for i, picture in enumerate(pictures):
        spots = [(0.5, 0.5), (0.26, 0.5), (0.5, 0.265)]
        pixels = [picture[int(y * len(picture)), int(x * len(picture))] for x, y in spots]
        shown = [pixel for pixel in pixels if pixel.tolist() not in grounds]
        thing, style, number = decode(shown[0]) if shown else (0, 0, 1)
        features[i] = thing, style
        scores["thing"][i] = -np.abs(np.arange(len(THINGS)) - thing)
        scores["style"][i, min(style, 3)] = 1.0  # any picture may be read, not coded ones alone
        scores["number"][i, min(max(number, 1), 3) - 1] = 1.0
        scores["background"][i] = -np.abs(np.array(grounds) - picture[0, 0].astype(int)).sum(1)
    return Reading(scores, features)


def draw(scene: Scene, size: int = 64) -> np.ndarray:
    centres = CENTRES.get(len(scene.things), ((0.5, 0.5),))
    places = [(x, y, 0.4) for x, y in centres]
    icons: Any = CodedIcons(len(scene.things))
    return render(scene, icons, np.random.default_rng(0), size, places=places)


class CodedPipeline:
    """Paints each prompt's scene, but every `wrong`th one with another thing in place of one."""

    def __init__(self, wrong: int = 0, off: int = 7, size: int = 64) -> None:
        self.wrong, self.off, self.size = wrong, off, size
        self.scenes = {prompt.text: prompt.scene for prompt in PROMPTS}
        self.calls: list[tuple[int, dict[str, Any]]] = []

    def __call__(self, prompt: str, *, seed: int, **settings: Any) -> SimpleNamespace:
        scene = self.scenes[prompt]
        if self.wrong and len(self.calls) % self.wrong == 0:
            place = (THINGS.index(scene.things[-1]) + self.off) % len(THINGS)
            things = (*scene.things[:-1], THINGS[place])
            scene = Scene(things, scene.style, scene.background)
        self.calls.append((seed, settings))
        return SimpleNamespace(images=[Image.fromarray(draw(scene, self.size))])


def fraction(evaluation: Evaluation, row: str, column: str) -> float:
    return evaluation.shares()[row][column].value


@pytest.mark.parametrize("size", [64, 128])
def test_a_perfect_painter_is_found_perfect(size: int) -> None:
    evaluation = evaluate(CodedPipeline(size=size), PROMPTS[:96], read_coded)
    for row, columns in evaluation.shares().items():
        for column, share in columns.items():
            assert share.value == 1.0, (row, column)
    assert fraction(evaluation, "all", "top1") == 1.0
    unsaid = sum(not prompt.style_said for prompt in PROMPTS[:96])
    assert evaluation.shares()["all"]["style"].number == 96 - unsaid < 96


def test_a_painter_who_is_wrong_one_time_in_four_is_found_so() -> None:
    """Pairs and counts with one wrong thing among the others are wrong as a whole."""
    evaluation = evaluate(CodedPipeline(wrong=4), PROMPTS[:200], read_coded)
    assert fraction(evaluation, "all", "top1") == 0.75
    assert fraction(evaluation, "all", "top5") == 0.75
    assert fraction(evaluation, "all", "style") == 1.0
    assert fraction(evaluation, "all", "number") == 1.0
    rows = evaluation.shares()
    assert rows["seen"]["top1"].number + rows["held-out"]["top1"].number == 200
    assert rows["English"]["top1"].number + rows["Chinese"]["top1"].number == 200


def test_a_near_miss_is_among_the_five() -> None:
    evaluation = evaluate(CodedPipeline(wrong=2, off=1), PROMPTS[:48], read_coded)
    assert fraction(evaluation, "all", "top1") == 0.5
    assert fraction(evaluation, "all", "top5") >= 0.95  # the list's last thing has no neighbour


@pytest.mark.parametrize(
    ("painted", "wrong"),
    [
        (Scene((THINGS[9], THINGS[5]), "noto", "red"), {"top1", "top5"}),  # sides swapped
        (Scene((THINGS[5], THINGS[9]), "flat", "red"), {"style"}),
        (Scene((THINGS[5], THINGS[9]), "noto", "blue"), {"background", "ground"}),
        (Scene((THINGS[5],), "noto", "red"), {"top1", "top5", "number"}),
    ],
)
def test_each_fault_of_a_pair_is_named(painted: Scene, wrong: set[str]) -> None:
    asked = Scene((THINGS[5], THINGS[9]), "noto", "red")
    (verdict,), _ = judge([asked], [draw(painted)], read_far)
    assert {column for column, right in vars(verdict).items() if not right} == wrong


def read_far(pictures: Sequence[np.ndarray]) -> Reading:
    """As `read_coded`, but nothing is among the five for being near in the list."""
    reading = read_coded(pictures)
    sharp = np.where(reading.scores["thing"] == 0, 1.0, 0.0)
    sharp[:, -4:] += 0.5  # the other four named are always these
    return Reading({**reading.scores, "thing": sharp}, reading.features)


def test_seeds_count_up_and_settings_reach_the_pipeline() -> None:
    pipe = CodedPipeline()
    evaluate(pipe, PROMPTS[:3], read_coded, seed=40, num_inference_steps=4)
    assert pipe.calls == [(seed, {"num_inference_steps": 4}) for seed in (40, 41, 42)]


def test_two_ways_are_compared_picture_by_picture() -> None:
    first = evaluate(CodedPipeline(wrong=10), PROMPTS[:200], read_coded)
    second = evaluate(CodedPipeline(wrong=4), PROMPTS[:200], read_coded)
    pairs = compare(first, second)
    # Wrong are numbers 0, 10, 20 ... and 0, 4, 8 ...: 20 and 50, and 10 in both.
    assert pairs["top1, all"] == Pairs(both=140, first=40, second=10, neither=10)
    assert pairs["top1, all"].difference == pytest.approx(-0.15)
    assert pairs["top1, all"].interval[1] < 0.0
    assert pairs["top1, all"].p_value < 0.001
    assert pairs["top1, seen"].number + pairs["top1, held-out"].number == 200
    assert pairs["style, all"].difference == 0.0


def test_different_prompts_cannot_be_compared() -> None:
    first = evaluate(CodedPipeline(), PROMPTS[:12], read_coded)
    second = evaluate(CodedPipeline(), PROMPTS[1:13], read_coded)
    with pytest.raises(SettingError, match="different prompts"):
        compare(first, second)


def test_languages_are_compared_on_the_same_scenes() -> None:
    asked = PROMPTS[:100]
    right = Verdict(*(True,) * 6)
    wrong = Verdict(*(False,) * 6)
    verdicts = [right if prompt.language == "en" else wrong for prompt in asked]
    reading = read_coded([draw(prompt.scene) for prompt in asked])
    pairs = compare_languages(Evaluation(asked, verdicts, reading, 64))["top1"]
    twins = sum(prompt.language == "zh" for prompt in asked)
    assert pairs == Pairs(both=0, first=twins, second=0, neither=0)


def test_the_distribution_is_measured_against_its_floor() -> None:
    """Coded pictures are read without error, so real renders lie at no distance at all."""
    icons: Any = CodedIcons(1)
    asked = [prompt for prompt in PROMPTS if prompt.scene.kind == "single"][:60]
    perfect = evaluate(CodedPipeline(), asked, read_coded)
    wrong = evaluate(CodedPipeline(wrong=1, off=50), asked, read_coded)
    figures = distribution(perfect, icons, read_coded)
    assert figures["n"] == 60
    assert figures["floor"] == pytest.approx(0.0, abs=1e-6)
    assert figures["painted"] == pytest.approx(0.0, abs=1e-6)
    assert distribution(wrong, icons, read_coded)["painted"] > 100.0


def test_squares_hold_the_things_whole() -> None:
    random = np.random.default_rng(0)
    for things in (2, 3):
        centres = CENTRES[things]
        for _ in range(300):
            for (x, y, side), centre in zip(place(things, random), centres, strict=True):
                apart = max(abs(x - centre[0]), abs(y - centre[1]))
                assert apart + side / 2 <= SQUARE / 2 + 1e-9


def test_squares_are_cut_where_they_are_asked() -> None:
    picture = np.arange(64 * 64).reshape(64, 64, 1)
    assert square(picture, 0.5, 0.5, 0.5)[0, 0, 0] == 16 * 64 + 16
    assert square(picture, 0.0, 1.0, 0.25).shape == (16, 16, 1)
    assert square(picture, 0.0, 1.0, 0.25)[-1, 0, 0] == 63 * 64


def test_the_ground_is_the_borders_colour() -> None:
    picture = np.full((64, 64, 3), BACKGROUNDS["pink"]["rgb"], np.uint8)
    picture[1:63, 1:63] = BACKGROUNDS["green"]["rgb"]
    picture[:20] = BACKGROUNDS["green"]["rgb"]
    assert ground(np.repeat(np.repeat(picture, 2, 0), 2, 1)) == ground(picture)
    picture[2:62, 2:62] = 0
    picture[:2], picture[-2:] = BACKGROUNDS["pink"]["rgb"], BACKGROUNDS["pink"]["rgb"]
    assert ground(picture) == "pink"


# The classifier


def test_examples_show_what_their_labels_say() -> None:
    icons: Any = CodedIcons(1)
    examples = Examples(icons)
    examples.seed(3)
    pixels, labels = examples.batch(200)
    pictures = ((pixels + 1.0) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert pixels.shape == (200, 3, 64, 64)
    whole = labels["number"] != UNKNOWN
    assert (labels["thing"] != UNKNOWN).sum() > 20
    assert (whole & (labels["background"] != UNKNOWN)).sum() > 20
    for i, picture in enumerate(pictures):
        if labels["thing"][i] != UNKNOWN:  # a single thing, or a square around one
            thing, style, _ = decode(picture[32, 32])
            assert (thing, style) == (labels["thing"][i], labels["style"][i])
        if whole[i] and labels["background"][i] != UNKNOWN:
            rgb = BACKGROUNDS[HEADS["background"][labels["background"][i]]]["rgb"]
            assert np.abs(picture[0, 0] - rgb).max() <= 9
    assert set(labels["number"].tolist()) == {UNKNOWN, 0, 1, 2}
    assert 0.2 < (labels["background"] == UNKNOWN).float().mean() < 0.6


def test_examples_are_fixed_by_their_seed() -> None:
    icons: Any = CodedIcons(1)
    batches = []
    for seed in (5, 5, 6):
        examples = Examples(icons)
        examples.seed(seed)
        batches.append(examples.batch(8)[0])
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_residual_blocks_begin_by_passing_through() -> None:
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(Block(8)(x), x)


def test_the_classifier_is_small_and_learns_a_batch() -> None:
    torch.manual_seed(0)
    model = Classifier()
    assert sum(parameter.numel() for parameter in model.parameters()) < 800_000
    examples = Examples(CodedIcons(1))  # type: ignore[arg-type]
    examples.seed(0)
    pixels, labels = examples.batch(16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def loss() -> torch.Tensor:
        logits, features = model(pixels)
        assert features.shape == (16, 128)
        each = (functional.cross_entropy(logits[h], labels[h], ignore_index=UNKNOWN) for h in HEADS)
        return sum(each, torch.zeros(()))

    before = loss().item()
    for _ in range(12):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.3 * before


def test_the_classifier_reads_pictures_of_any_size_and_number() -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (size, size, 3)).astype(np.uint8) for size in (33, 64, 128)]
    model = Classifier().eval()
    together, alone = model.read(pictures), model.read(pictures[2:])
    assert together.features.shape == (3, 128)
    for head, words in HEADS.items():
        assert together.scores[head].shape == (3, len(words))
        np.testing.assert_allclose(together.scores[head][2], alone.scores[head][0], atol=1e-5)


def test_a_classifier_of_other_words_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_module, "JUDGE", tmp_path / "judge.safetensors")
    with pytest.raises(SettingError, match=r"judge\.safetensors is missing"):
        load_classifier()
    model = Classifier()
    write_classifier(model)
    assert not load_classifier().training
    monkeypatch.setattr(model, "get_extra_state", lambda: {**HEADS, "thing": THINGS[::-1]})
    write_classifier(model)
    with pytest.raises(SettingError, match="other words"):
        load_classifier()


@pytest.mark.slow
def test_the_shipped_classifier_tells_painted_things_apart() -> None:
    """The judge's own weights, on the bundled model's pictures."""
    pipe = StableDiffusionPipeline.from_pretrained(command.POCKET, profile="exact")
    things = ["rocket", "panda", "pizza", "guitar", "sunflower", "bicycle", "crab", "anchor"]
    pictures = [np.asarray(pipe(f"a {thing}", seed=3).images[0]) for thing in things]
    reading = load_classifier().read(pictures)
    named = [reading.best("thing", row)[0] for row in range(len(things))]
    assert sum(a == b for a, b in zip(named, things, strict=True)) >= 7, named


def test_the_report_is_of_fresh_renders_of_each_kind() -> None:
    """Coded icons all say "one": a reader of them is right on singles, wrong on how many else."""
    reader: Any = SimpleNamespace(read=read_coded)
    icons: Any = CodedIcons(1)
    lines = report(reader, icons, number=20).splitlines()[2:]
    cells = [[cell.strip().split(" ")[0] for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["single", "20", *["100.0"] * 6],
        ["pair", "20", *["100.0"] * 5, "0.0"],
        ["count", "20", *["100.0"] * 5, "0.0"],
    ]


# The command


def test_the_decoders_error_is_that_of_encode_and_decode() -> None:
    """An encoder that keeps the pixels, a decoder that adds 0.1: 12.75 levels, rounded 13."""

    asked = {}

    def graph(part: str, shapes: dict[str, tuple[int, ...]]) -> Any:
        asked[part] = shapes
        if part == "vae_encoder":
            return lambda feeds: {
                "latent_parameters": np.concatenate([feeds["sample"], 0 * feeds["sample"]], 1)
            }
        return lambda feeds: {"sample": feeds["latent_sample"] + np.float32(0.1)}

    family = SimpleNamespace(space=LatentSpace(channels=3, factor=1))
    pipe: Any = SimpleNamespace(family=family, parts=SimpleNamespace(graph=graph))
    picture = np.full((24, 24, 3), 100, np.uint8)
    found = decoder_error(pipe, [picture, picture])
    ends = {"vae_encoder": "sample", "vae_decoder": "latent_sample"}
    assert asked == {part: {end: (1, 3, 24, 24)} for part, end in ends.items()}
    assert found["n"] == 2
    assert found["psnr"] == pytest.approx(10 * math.log10(255**2 / 13**2))
    assert found["ssim"] == pytest.approx((2 * 100 * 113 + 6.5025) / (100**2 + 113**2 + 6.5025))


def test_the_vae_is_judged_on_all_kinds_of_scenes() -> None:
    icons: Any = CodedIcons(1)
    pictures = held_out_renders(icons, 32, number=12)
    assert len(pictures) == 12
    assert all(picture.shape == (32, 32, 3) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 12


def test_a_folder_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    before = folder_digest(tmp_path)
    (tmp_path / "README.md").write_text("no part of the model")
    assert folder_digest(tmp_path) == before
    (tmp_path / "unet" / "config.json").write_text("{ }")
    assert folder_digest(tmp_path) != before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prompts", "3"], "--prompts is 3"),
        (["no-such-folder"], "no-such-folder"),
        (["--json", "no-such-folder/figures.json"], "no folder"),
        (["--engine", "steam"], "steam"),
        (["--profile", "imaginary"], "imaginary"),
        (["--against", "no-such-folder"], "no-such-folder"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = command.main(arguments)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert code == 2
    assert complaint in said
    assert said.count("\n") == 1


def test_stopping_is_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", stop)
    assert command.main([]) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.slow
def test_the_command_paints_judges_compares_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled model, one step a picture, with coded icons and their reader."""
    monkeypatch.setattr(command, "VAE_PICTURES", 2)
    monkeypatch.setattr(command, "open_icons", lambda: CodedIcons(1))
    monkeypatch.setattr(command, "load_classifier", lambda: SimpleNamespace(read=read_coded))
    target = tmp_path / "figures.json"
    arguments = ["--prompts", "12", "--steps", "1", "--guidance-scale", "1", "--seed", "5"]
    arguments += ["--against-steps", "2", "--json", str(target)]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    for text in ("| seen singles, English |", "Fréchet", "PSNR", "| top1, held-out |"):
        assert text in printed
    facts = json.loads(target.read_text("utf-8"))
    first, second = facts["ways"]
    assert first["way"]["settings"]["num_inference_steps"] == 1
    assert second["way"]["settings"]["num_inference_steps"] == 2
    assert second["way"]["settings"]["guidance_scale"] == 1.0
    assert first["way"]["sha256"] == second["way"]["sha256"]
    assert [picture["text"] for picture in first["pictures"]] == [p.text for p in PROMPTS[:12]]
    assert facts["compared"]["top1, all"]["both"] <= 12
    assert first["vae"]["n"] == 2
    assert command.main(arguments) == 2  # nothing is overwritten
