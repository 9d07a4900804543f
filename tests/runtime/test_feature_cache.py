"""Cached deep features are DeepCache's: diffusers' UNet with its own features put back in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints_xl import tiny_stable_diffusion_xl
from evaluations import kinds, watched
from pictures import hole, painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.denoise.feature_cache import (
    Caching,
    Evaluation,
    FeatureCache,
    Wanted,
)
from pleinair.runtime.errors import SettingError
from pleinair.runtime.graphs.cut import DEEP_FEATURES
from references import NEGATIVE, PROMPT, differ, paint_reference, reference_scheduler

pytestmark = pytest.mark.usefixtures("compiled_once")

torch = pytest.importorskip("torch")

Array = np.ndarray

# Channels of the skip connections of the tiny UNet, from the uppermost down.
SKIPS = (32, 32, 32, 64, 64, 64)
KEPT = {"cache_interval": 2, "cache_guidance": "kept", "scheduler": "ddim"}
HELD = {"cache_interval": 2, "cache_level": "prediction"}
QUICK: dict[str, Any] = {"seed": 3, "num_inference_steps": 5, "width": 64, "height": 64}


class DeepCache:
    """diffusers' UNet with the deep features of an earlier evaluation; all of it is computed."""

    def __init__(
        self,
        unet: Any,
        whole: set[int],
        branch: int = 0,
        skips: tuple[int, ...] = SKIPS,
        guidance: str = "anew",
    ):
        resnets = [resnet for block in unet.up_blocks for resnet in block.resnets]
        self.unet, self.resnet, self.skip = unet, resnets[-1 - branch], skips[branch]
        self.whole, self.keeps_guidance = whole, guidance == "kept"
        self.evaluation, self.kept = -1, None

    def __enter__(self) -> None:
        self.hooks = [
            self.unet.register_forward_pre_hook(self.begin),
            self.resnet.register_forward_pre_hook(self.replace),
            self.unet.register_forward_hook(self.guide),
        ]

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def begin(self, unet: Any, arguments: Any) -> None:
        self.evaluation += 1

    def replace(self, resnet: Any, arguments: Any) -> Any:
        joined, *rest = arguments
        deep, skip = joined.split([joined.shape[1] - self.skip, self.skip], dim=1)
        if self.evaluation in self.whole:
            self.kept = deep
            return None
        return (torch.cat([self.kept, skip], dim=1), *rest)

    def guide(self, unet: Any, arguments: Any, output: Any) -> Any:
        """Where guidance is kept, the halves differ as they did in the last whole evaluation."""
        (prediction,) = output
        unguided, guided = prediction.chunk(2)
        if self.evaluation in self.whole:
            self.difference = guided - unguided
        if self.evaluation in self.whole or not self.keeps_guidance:
            return None
        return (torch.cat([guided - self.difference, guided]),)


class HeldPrediction:
    """diffusers' UNet, whose last prediction of a full evaluation is given again in between."""

    def __init__(self, unet: Any, whole: set[int]):
        self.unet, self.whole, self.evaluation = unet, whole, -1

    def __enter__(self) -> None:
        self.hook = self.unet.register_forward_hook(self.give)

    def __exit__(self, *_: Any) -> None:
        self.hook.remove()

    def give(self, unet: Any, arguments: Any, output: Any) -> Any:
        self.evaluation += 1
        if self.evaluation in self.whole:
            self.kept = output
        return self.kept


CASES: dict[str, tuple[str, dict[str, Any], set[int]]] = {
    "frozen": ("ddim", {"cache_interval": 2}, {0, 2, 4}),
    "deeper": ("euler_a", {"cache_interval": 3, "cache_branch": 2}, {0, 3}),
    "multistep": ("dpmpp_2m_karras", {"cache_interval": 2}, {0, 2, 4}),
    "deepest": ("unipc", {"cache_interval": 2, "cache_branch": 5}, {0, 2, 4}),
    "the last whole": (
        "dpmpp_2m",
        {"cache_interval": 3, "cache_schedule": "growing"},
        {0, 2, 4},
    ),
    "guidance kept": ("euler", {"cache_interval": 3, "cache_guidance": "kept"}, {0, 3}),
    # Nine evaluations, of five timesteps; of plms six.
    "twice a step": ("heun", {"cache_interval": 3}, {0, 3, 6}),
    "twice at the second": ("plms", {"cache_interval": 2}, {0, 2, 4}),
}


@pytest.mark.parametrize("case", CASES)
def test_pictures_are_deep_caches(
    pipe: StableDiffusionPipeline, reference: Any, config: Any, case: str
) -> None:
    scheduler, caching, whole = CASES[case]
    reference.scheduler = reference_scheduler(scheduler, config)
    arguments = {name: value for name, value in QUICK.items() if name != "seed"}
    own = {name.removeprefix("cache_"): value for name, value in caching.items()}
    own = {name: value for name, value in own.items() if name not in ("interval", "schedule")}
    with DeepCache(reference.unet, whole, **own):
        theirs = paint_reference(reference, [3], negative_prompt=NEGATIVE, **arguments)
    ours = pipe(PROMPT, NEGATIVE, scheduler=scheduler, **QUICK, **caching)
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m"])
def test_pictures_of_held_predictions(
    pipe: StableDiffusionPipeline, reference: Any, config: Any, scheduler: str
) -> None:
    reference.scheduler = reference_scheduler(scheduler, config)
    arguments = {name: value for name, value in QUICK.items() if name != "seed"}
    with HeldPrediction(reference.unet, {0, 2, 4}):
        theirs = paint_reference(reference, [3], negative_prompt=NEGATIVE, **arguments)
    held = {"cache_interval": 3, "cache_schedule": "growing", "cache_level": "prediction"}
    ours = pipe(PROMPT, NEGATIVE, scheduler=scheduler, **QUICK, **held)
    assert differ(ours.images, theirs) <= 1


def test_the_settings_matter(pipe: StableDiffusionPipeline) -> None:
    """Without this the cases above could all be of one picture."""
    cases = [
        {},
        {"cache_interval": 2},
        {"cache_interval": 2, "cache_branch": 2},
        {"cache_interval": 3},
        {"cache_interval": 4, "cache_schedule": "growing"},
        {"cache_interval": 2, "cache_guidance": "kept"},
        {"cache_interval": 2, "cache_level": "prediction"},
    ]
    latents = [
        pipe("boat", scheduler="ddim", **{**QUICK, **case}, output_type="latent").images[0]
        for case in cases
    ]
    for i, one in enumerate(latents):
        for other in latents[:i]:
            assert np.abs(one - other).max() > 1e-4  # the same again would be equal to the bit


def test_an_interval_of_one_is_exact(
    pipe: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = pipe("boat", **QUICK).images[0]
    seen = watched(pipe, monkeypatch)
    same = pipe("boat", **QUICK, cache_interval=1, cache_branch=2).images[0]
    assert np.array_equal(exact, same)
    assert kinds(seen) == "pppppp"  # plms
    assert {one.batch for one in seen} == {2}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"cache_interval": 2, "scheduler": "ddim"}, "wswsw"),
        ({"cache_interval": 9, "scheduler": "ddim"}, "wssss"),
        ({"cache_interval": 3, "scheduler": "heun"}, "wsswsswss"),
        ({"cache_interval": 2, "guidance_scale": 1.0, "scheduler": "ddim"}, "wswsw"),
        # Each image begins anew.
        ({"cache_interval": 2, "scheduler": "ddim", "num_images_per_prompt": 2}, "wswsw" * 2),
        # Two tiles in each evaluation, each with features of its own.
        ({"cache_interval": 2, "scheduler": "ddim", "width": 96, "tile": 64}, "wwsswwssww"),
        # Where the prompt changes, features of the old one are of no use.
        ({"cache_interval": 5, "scheduler": "ddim", "prompt": "[apple:boat:0.6]"}, "wssws"),
        ({"cache_interval": 5, "scheduler": "ddim", "prompt": "[apple|boat]"}, "wwwww"),
        # The two halves one by one while there is guidance, then the prompted one alone.
        ({"cache_interval": 2, "scheduler": "ddim", "guidance_stop": 0.6}, "wwssww" + "sw"),
        # The unguided half comes in at a shallow evaluation, and has nothing kept yet.
        ({"cache_interval": 2, "scheduler": "ddim", "guidance_start": 0.2}, "w" + "ws" + "wwssww"),
        ({"cache_interval": 2, "scheduler": "ddim", "image": painting(), "strength": 0.6}, "wsw"),
        # Guidance is kept as well: in between the prompted half is asked alone,
        (KEPT, "wswsw"),
        ({**KEPT, "guidance_scale": 1.0}, "wswsw"),
        ({**KEPT, "width": 96, "tile": 64}, "ww" + "ss" + "ww" + "ss" + "ww"),
        ({**KEPT, "num_images_per_prompt": 2}, "wswsw" * 2),
        ({**KEPT, "cache_interval": 4, "cache_schedule": "growing"}, "wsssw"),
        ({**KEPT, "guidance_stop": 0.6}, "ww" + "s" + "ww" + "s" + "w"),
        # Predictions are kept, of both halves at once: nothing is asked in between,
        ({**HELD, "scheduler": "ddim"}, "ppp"),
        ({**HELD, "scheduler": "ddim", "cache_guidance": "kept"}, "ppp"),
        ({**HELD, "scheduler": "ddim", "width": 96, "tile": 64}, "pppppp"),
        ({**HELD, "scheduler": "ddim", "prompt": "[apple:boat:0.6]"}, "pppp"),
        # but for a new prompt, and where the unguided half has not been asked yet.
        ({**KEPT, "cache_interval": 5, "prompt": "[apple:boat:0.6]"}, "wssws"),
        ({**KEPT, "guidance_start": 0.2}, "w" + "ws" + "ww" + "s" + "ww"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_how_often_the_whole_is_asked(
    pipe: StableDiffusionPipeline,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    expected: str,
) -> None:
    seen = watched(pipe, monkeypatch)
    pipe(**{"prompt": "boat", **QUICK, **arguments})
    assert kinds(seen) == expected


def test_a_batch_is_its_pictures_alone(pipe: StableDiffusionPipeline) -> None:
    caching = {"cache_interval": 2}
    both = pipe(["apple", "boat"], **QUICK, **caching).images
    alone = pipe("boat", **{**QUICK, "seed": 4}, **caching).images
    assert np.array_equal(both[1], alone[0])


@pytest.mark.parametrize("mask", [False, True])
def test_from_a_picture(reference: Any, exported_openvino: Path, config: Any, mask: bool) -> None:
    import diffusers

    task = "Inpaint" if mask else "Img2Img"
    kind = getattr(diffusers, f"StableDiffusion{task}Pipeline")
    peer = kind(**reference.components, requires_safety_checker=False)
    peer.scheduler = reference_scheduler("ddim", config)
    peer.set_progress_bar_config(disable=True)
    pictures = {"image": painting(), **({"mask_image": hole()} if mask else {})}
    size = {"width": 64, "height": 64} if mask else {}
    common = {"num_inference_steps": 5, "strength": 0.8, **pictures}
    with DeepCache(peer.unet, {0, 2}):
        generator = torch.Generator("cpu").manual_seed(3)
        theirs = peer(PROMPT, negative_prompt=NEGATIVE, generator=generator, **common, **size)
    pipe = StableDiffusionPipeline.from_pretrained(exported_openvino, profile="exact")
    ours = pipe(PROMPT, NEGATIVE, seed=3, scheduler="ddim", cache_interval=2, **common)
    assert differ(ours.images, np.stack([np.asarray(image) for image in theirs.images])) <= 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_xl(engine: str, both: Any) -> None:
    """Its uppermost block attends to nothing: a shallow part has no use for the prompt."""
    from diffusers import StableDiffusionXLPipeline

    checkpoint, folder = both("tiny-xl", tiny_stable_diffusion_xl, engine)
    peer = StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False)
    peer.set_progress_bar_config(disable=True)
    size = {"num_inference_steps": 4, "guidance_scale": 5.0, "width": 64, "height": 64}
    with DeepCache(peer.unet, {0, 2}, skips=(32,)):
        theirs = paint_reference(peer, [3], negative_prompt=NEGATIVE, **size)
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, engine=engine, device="cpu", profile="exact"
    )
    ours = pipe(PROMPT, NEGATIVE, seed=3, cache_interval=2, **size)
    assert differ(ours.images, theirs) <= 1


class FakeUnet:
    """Its features are a number of its choice; above them it only adds 100."""

    def __init__(self) -> None:
        self.features = 0.0

    def full(self, feeds: Any) -> dict[str, Array]:
        made = np.full((1, 1, 1, 1), self.features, np.float32)
        return {"out_sample": made + 100, DEEP_FEATURES: made}

    def shallow(self, feeds: Any) -> dict[str, Array]:
        return {"out_sample": feeds[DEEP_FEATURES] + 100}


def test_kept_features_stand_in_until_the_next_full_evaluation() -> None:
    unet = FakeUnet()
    cache = FeatureCache(Caching(interval=2), unet.full, unet.shallow)
    found = []
    for number, features in enumerate([1.0, 2.0, 5.0, 4.0, 6.0]):
        unet.features = features
        prediction = cache.predict(dict, Evaluation(number, 5), Wanted(0, 0))
        found.append(float(prediction.item()) - 100)
    assert found == [1, 1, 5, 5, 6]


def test_features_of_other_parts_are_kept_apart() -> None:
    unet = FakeUnet()
    cache = FeatureCache(Caching(interval=5), unet.full, unet.shallow)
    for part in range(3):
        unet.features = part
        cache.predict(dict, Evaluation(0, 5), Wanted(part, 0))
    found = [cache.predict(dict, Evaluation(1, 5), Wanted(part, 0)).item() for part in range(3)]
    assert found == [100, 101, 102]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache_interval": 0}, "cache_interval is 0; give 1 or more"),
        ({"cache_interval": 2.5}, "cache_interval is 2.5"),
        ({"cache_branch": -1}, "cache_branch is -1; give 0 to 5"),
        ({"cache_branch": 6}, "cache_branch is 6; give 0 to 5"),
        ({"cache_schedule": "even"}, "choose from: uniform, growing"),
        ({"cache_guidance": "no"}, "cache_guidance is 'no'; choose from: anew, kept"),
        ({"cache_level": "all"}, "cache_level is 'all'; choose from: features, prediction"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(
    pipe: StableDiffusionPipeline, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        pipe("boat", **{**QUICK, **arguments})
    assert "\n" not in str(caught.value)
