"""Train the classifier that judges painted pictures: thing, style, background, number of things.

It learns from renderings that the generative model never sees: sizes and shifts from wider ranges
than `pictures.place`, grounds of any colour as well as the named ones, squares cut out around the
things of pairs and counts, a little blur, noise and change of colour, so that the softness of
painted pictures does not decide. Held-out scenes are among them: it must know what it is to find.

Writes `judge.safetensors` beside this file, and in `work/` its curves and state; then prints how
often it is right on fresh renders in the very layout that the generative model is trained to paint.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from pleinair.bench.markdown import table
from pleinair.runtime.errors import SettingError

from .judge import HEADS, SQUARE, Reading, judge, shares, square
from .loop import autocast, parse_options, pick_device, train
from .pictures import CENTRES, SIZE, Icons, as_tensor, render
from .scenes import Scene, draw_scene
from .vocabulary import BACKGROUNDS
from .workers import is_first_worker

JUDGE = Path(__file__).with_name("judge.safetensors")
INPUT = 64
UNKNOWN = -100  # a label that cross_entropy passes over
WEIGHTS = {"thing": 1.0, "style": 0.5, "background": 0.3, "number": 0.3}
FRESH = 987_654_321  # a random stream that no training run draws from
CHUNK = 128


class Block(nn.Module):
    """A residual block of the pre-activation form (He et al. 2016b); at first it passes through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.conv1(functional.relu(self.norm1(x)))
        return x + self.conv2(functional.relu(self.norm2(inner)))


class Classifier(nn.Module):
    """A small convolutional network with a linear head for each of `HEADS`."""

    def __init__(self, widths: Sequence[int] = (32, 48, 96, 128)) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Conv2d(3, widths[0], 5, stride=2, padding=2, bias=False)]
        for before, width in pairwise(widths):
            stages += [
                nn.BatchNorm2d(before),
                nn.ReLU(),
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                Block(width),
            ]
        self.body = nn.Sequential(*stages, nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.heads = nn.ModuleDict(
            {head: nn.Linear(widths[-1], len(classes)) for head, classes in HEADS.items()}
        )

    def forward(self, pixels: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Logits of each head, (B, classes), and the features under them, (B, widths[-1]).

        pixels: float32 (B, 3, INPUT, INPUT) in -1..1.
        """
        features = self.body(pixels).mean((2, 3))
        return {name: head(features) for name, head in self.heads.items()}, features

    def get_extra_state(self) -> dict[str, list]:
        return HEADS

    def set_extra_state(self, state: dict[str, list]) -> None:
        # Weights fit any vocabulary of the same length; only the words tell that it changed.
        if state != HEADS:
            raise SettingError(
                "the classifier knows other words than subjects.json; train it anew with: "
                "python -m models.pocket.training.classifier --no-resume"
            )

    @torch.inference_mode()
    def read(self, pictures: Sequence[np.ndarray]) -> Reading:
        """The `Reader` of `judge`: uint8 (h, w, 3) pictures of any size. Wants `eval()` mode."""
        device = next(self.parameters()).device
        scores: dict[str, list] = {head: [] for head in HEADS}
        features = []
        for start in range(0, len(pictures), CHUNK):
            batch = [fit(picture) for picture in pictures[start : start + CHUNK]]
            logits, found = self(as_tensor(batch).to(device))
            features.append(found.double().cpu())
            for head in HEADS:
                scores[head].append(logits[head].float().cpu())
        joined = {head: torch.cat(chunks).numpy() for head, chunks in scores.items()}
        return Reading(joined, torch.cat(features).numpy())


def write_classifier(classifier: Classifier) -> None:
    """As `JUDGE`: its matrices in half precision, its norms' vectors as they are."""
    state = classifier.state_dict()
    words = json.dumps(state.pop("_extra_state"))
    tensors = {
        name: (value.half() if value.ndim > 1 else value).cpu().contiguous()
        for name, value in state.items()
    }
    save_file(tensors, JUDGE, {"words": words})


def load_classifier() -> Classifier:
    """The trained classifier; SettingError where it is absent or was trained on other words."""
    if not JUDGE.is_file():
        raise SettingError(f"{JUDGE} is missing; run: python -m models.pocket.training.classifier")
    with safe_open(JUDGE, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state["_extra_state"] = json.loads(file.metadata()["words"])
    classifier = Classifier()
    classifier.load_state_dict(state)
    return classifier.to(pick_device()).eval()


def fit(picture: np.ndarray) -> np.ndarray:
    """A square picture at the size that the classifier takes."""
    if len(picture) == INPUT:
        return picture
    resized = Image.fromarray(picture).resize((INPUT, INPUT), Image.Resampling.BICUBIC)
    return np.asarray(resized)


Example = tuple[np.ndarray, dict[str, int]]


class Examples:
    """Endless batches of pictures with their labels, in an order that the seed fixes."""

    SINGLE = 0.75  # a scene of several things gives three or four examples
    NAMED_COLOURS = 0.6

    def __init__(self, icons: Icons) -> None:
        self.icons = icons

    def seed(self, seed: int) -> None:
        self.words, self.numbers = Random(seed), np.random.default_rng(seed)

    def batch(self, size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Pixels float32 (size, 3, INPUT, INPUT) in -1..1, and head -> int64 (size,)."""
        examples: list[Example] = []
        while len(examples) < size:
            if self.words.random() < self.SINGLE:
                examples.append(self._single())
            else:
                examples += self._several()
        pictures, labels = zip(*examples[:size], strict=True)
        columns = {head: torch.tensor([label[head] for label in labels]) for head in HEADS}
        return as_tensor(list(pictures)), columns

    def _single(self) -> Example:
        scene = draw_scene(self.words, "single")
        rgb, named = self._colour(scene)
        side = self.numbers.uniform(0.5, 0.98)
        x, y = 0.5 + (1.0 - side) * self.numbers.uniform(-0.5, 0.5, 2)
        picture = render(scene, self.icons, self.numbers, INPUT, rgb, [(x, y, side)])
        return picture, labels(scene, named, thing=scene.things[0], number=1)

    def _several(self) -> list[Example]:
        """The whole picture, and the square around each thing."""
        scene = draw_scene(self.words, self.words.choice(("pair", "count")))
        rgb, named = self._colour(scene)
        centres = np.array(CENTRES[len(scene.things)])
        side = self.numbers.uniform(0.36, 0.5)
        shifts = self.numbers.uniform(-0.025, 0.025, 2)
        shifts = shifts + self.numbers.uniform(-0.015, 0.015, centres.shape)
        places = [(x, y, side) for x, y in centres + shifts]
        # At the painted size: a cut-out is then as coarse as that of a painted picture.
        picture = render(scene, self.icons, self.numbers, SIZE, rgb, places)
        examples = [(fit(picture), labels(scene, named, number=len(scene.things)))]
        for thing, centre in zip(scene.things, centres, strict=True):
            x, y = centre + self.numbers.uniform(-0.015, 0.015, 2)
            part = square(picture, x, y, SQUARE * self.numbers.uniform(0.94, 1.06))
            examples.append((fit(part), labels(scene, named, thing=thing)))
        return examples

    def _colour(self, scene: Scene) -> tuple[np.ndarray, bool]:
        """The ground's colour, and whether it is the scene's or any."""
        if self.words.random() < self.NAMED_COLOURS:
            near = BACKGROUNDS[scene.background]["rgb"] + self.numbers.uniform(-8, 8, 3)
            return near.clip(0, 255), True
        return self.numbers.uniform(0, 255, 3), False


def labels(
    scene: Scene, named: bool, thing: str | None = None, number: int | None = None
) -> dict[str, int]:
    """Head -> class, UNKNOWN where the picture does not say. named: the ground is the scene's."""
    words = {
        "thing": thing,
        "style": scene.style,
        "background": scene.background if named else None,
        "number": number,
    }
    return {
        head: UNKNOWN if word is None else HEADS[head].index(word) for head, word in words.items()
    }


def roughen(pixels: torch.Tensor) -> torch.Tensor:
    """Each picture with some softness, noise, contrast and light of its own."""
    soften, noise, gain, light = torch.rand(4, len(pixels), 1, 1, 1, device=pixels.device)
    soft = functional.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    pixels = pixels + soften * (soft - pixels)
    pixels = pixels * (0.94 + 0.12 * gain) + 0.08 * (light - 0.5)
    return pixels + 0.08 * noise * torch.randn_like(pixels)


def losses_on(classifier: Classifier):
    """The losses of `classifier` as the training loop calls them."""
    device = next(classifier.parameters()).device

    def losses(examples: Examples, size: int, share: float) -> dict[str, torch.Tensor]:
        pixels, wanted = examples.batch(size)
        pixels = roughen(pixels.to(device)).contiguous(memory_format=torch.channels_last)
        with autocast():
            logits, _ = classifier(pixels)
        scalars = {
            head: functional.cross_entropy(
                logits[head].float(), wanted[head].to(device), ignore_index=UNKNOWN
            )
            for head in HEADS
        }
        return {"loss": sum(WEIGHTS[head] * scalars[head] for head in HEADS), **scalars}

    return losses


def report(classifier: Classifier, icons: Icons, number: int) -> str:
    """How often `judge` finds fresh renders right: a table, `number` scenes of each kind."""
    words, numbers = Random(FRESH), np.random.default_rng(FRESH)
    rows = []
    for kind in ("single", "pair", "count"):
        scenes = [draw_scene(words, kind) for _ in range(number)]
        pictures = [render(scene, icons, numbers) for scene in scenes]
        verdicts, _ = judge(scenes, pictures, classifier.read)
        rows.append([kind, number, *shares(verdicts).values()])
    return table(["real renders", "n", *shares([])], rows)


def main() -> None:
    options = parse_options(minutes=6.0, batch=64, rate=3e-3)
    torch.manual_seed(options.seed)  # the same first weights on every worker
    classifier = Classifier().to(pick_device(), memory_format=torch.channels_last)
    icons = Icons()
    train("classifier", classifier, Examples(icons), losses_on(classifier), options)
    if is_first_worker():
        write_classifier(classifier)
        print("Right on fresh renders, in per cent (95 % Wilson interval):")
        print(report(load_classifier(), icons, number=1000))


if __name__ == "__main__":
    main()
