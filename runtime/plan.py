"""A call's plan: what will be computed, checked without work, then painted."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .denoise.control import Controls
from .denoise.feature_cache import Caching, Evaluation
from .denoise.guidance import CONDITIONAL, Guidance, is_conditional, rescaled
from .denoise.noise import TorchNoise
from .denoise.span import Span
from .errors import Argument, Message, PromptError, SettingError
from .families.family import Family
from .families.settings import Settings
from .images import sizing
from .images.enlarging import Enlargement
from .images.fitting import Fit
from .images.fitting import Size as Pixels
from .images.original import Original
from .images.reading import MOST_PIXELS, held, over, read
from .model.controlnet import ControlNet
from .model.safety import chosen
from .model.tiles import Tiles
from .options.groups import Enlarging, Picture, Size
from .output import PipelineOutput
from .request import Job, Request, consecutive
from .schedulers import Scheduler
from .text.prompt import TokenizedPrompt, joined, tokenized

log = logging.getLogger("pleinair")

Array: TypeAlias = NDArray[np.float32]

# diffusers': of image to image, inpainting, and what ControlNets add to text, picture and mask.
_STRENGTH, _MASKED_STRENGTH = 0.8, 1.0
_CONTROL_SCALES = (1.0, 0.8, 0.5)
ENLARGING_STRENGTH, ENLARGING_GUIDANCE = 0.3, 1.0
# Pixels that the VAE is given whole unless told otherwise: its widest layers take 1 KB for each.
_WHOLE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a call will compute, checked: `paint()` does it, `str(plan)` says it.

    settings: size, steps, guidance and the like, with the model's defaults.
    jobs: the images, in order.
    prompts: text -> its tokens, the negative prompts' among them.
    tiles, vae_tiles: what is denoised at once, and what the VAE is given at once.
    caching: of deep features; None keeps none.
    controls: of ControlNets; None has none.
    original: the picture that the call starts from.
    enlargement: how that is enlarged first.
    visible: width and height of what comes back; what is painted may be a little larger.
    latents: start noise for every image.
    timesteps: which of the scheduler's timesteps are taken.
    then: the second pass, which enlarges each picture of this one.
    """

    request: Request
    settings: Settings
    jobs: Sequence[Job]
    prompts: Mapping[str, TokenizedPrompt]
    tiles: Tiles
    vae_tiles: Tiles
    caching: Caching | None
    controls: Controls | None
    original: Original | None
    enlargement: Enlargement | None
    visible: Pixels
    latents: Array | None
    span: Span
    timesteps: range
    safety: str
    then: "Plan | None"
    carry_out: Callable[["Plan"], PipelineOutput]

    def paint(self) -> PipelineOutput:
        """Compute it; raises EngineError where the machine cannot."""
        return self.carry_out(self)

    def onto(self, picture: Image.Image, jobs: Sequence[Job], family: Family) -> "Plan":
        """The plan of an enlarging pass, with the picture that it enlarges."""
        assert self.enlargement is not None
        original = Original(self.enlargement.canvas(picture), None, "stretch", False)
        canvas = family.canvas(original, self.settings.width, self.settings.height)
        settings = replace(self.settings, canvas=canvas)
        return replace(self, original=original, settings=settings, jobs=jobs)

    @property
    def decoder(self) -> str:
        """The part that makes pixels of latents."""
        return "vae_decoder_tiny" if self.request.size.vae == "tiny" else "vae_decoder"

    def texts(self, job: Job) -> tuple[str, str | None]:
        """An image's prompt, and its negative prompt as far as a branch sees it; None is none."""
        return job.prompt, job.negative if self.settings.guidance.guides else ""

    @property
    def evaluations(self) -> dict[str, int]:
        """How often the denoiser is asked for the first image: in full, and its shallow part.

        Other images differ where features are kept and prompts change at other steps.
        """
        guidance, counts = self.guidance, Counter({"full": 0, "shallow": 0})
        kept: dict[tuple[str, ...], Any] = {}  # batch -> the texts that its features are of
        for number, texts in zip(range(len(self.timesteps)), self._texts, strict=False):
            evaluation = Evaluation(number, len(self.timesteps))
            full = self.caching is None or self.caching.computes(evaluation)
            stands = {batch for batch, of in kept.items() if of == _seen(batch, texts) and not full}
            asked = guidance.batches
            if not guidance.acts(*evaluation) or (guidance.kept and stands >= set(asked)):
                asked = ((CONDITIONAL,),)
            for batch in asked:
                counts["shallow" if batch in stands else "full"] += len(self.tiles.windows)
                kept[batch] = _seen(batch, texts)
        return {name: count for name, count in counts.items() if count}

    @property
    def guidance(self) -> Guidance:
        """That of the first image: with a branch for each prompt that AND joins in its own."""
        prompt = self.prompts[self.jobs[0].prompt]
        return self.settings.guidance.joined([part.weight for part in prompt.parts])

    @property
    def _texts(self) -> list[dict[str, int]]:
        """For each step the number of the text that each branch of the first image sees."""
        prompt, negative = (self.prompts[text or ""] for text in self.texts(self.jobs[0]))
        parts, branches = iter(prompt.parts), self.guidance.branches
        told = [next(parts) if is_conditional(branch) else negative for branch in branches]
        each = zip(*(one.order for one in told), strict=True)
        return [dict(zip(branches, texts, strict=True)) for texts in each]

    def __str__(self) -> str:
        settings, size = self.settings, f"{self.settings.width}x{self.settings.height}"
        asked = ", ".join(f"{count} {name}" for name, count in self.evaluations.items())
        branches = _counted(len(self.guidance.batches[0]), "branch", "branches")
        words = (
            f"{_counted(len(self.jobs), 'picture')} of {size}, "
            f"{_counted(len(self.timesteps), 'step')}, guidance scale "
            f"{settings.guidance_scale:g}; evaluations of {branches} for each: {asked}"
        )
        return f"{words}; then {self.then}" if self.then else words


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Plans calls of one opened model.

    format: of the graphs that paint; what the folder lacks in it is refused.
    carry_out: what paints a plan.
    """

    family: Family
    format: str
    controlnets: Sequence[ControlNet]
    carry_out: Callable[[Plan], PipelineOutput]

    def plan(self, request: Request) -> Plan:
        """Check everything without work.

        Raises SettingError, SchedulerError, PromptError or BundleError, naming what is wrong.
        """
        request = _held(request)
        if request.enlarging.enlarge is None:
            if request.enlarging != Enlarging():
                given = [
                    name for name, value in vars(request.enlarging).items() if value is not None
                ]
                raise SettingError(
                    Message("{0} is about {enlarge}; give that too", Argument(given[0]))
                )
            return self._pass(request, self._original(request.picture))
        if self.family.task != "text":
            raise SettingError(
                f"{self.family.bundle.name} is made for {self.family.task}; only a model that "
                "paints from text alone can enlarge any picture"
            )
        if is_enlarged_as_it_is(request):
            picture = _brought_to_size(request)
            only = self._enlarging_pass(request, picture.size)
            return only.onto(picture, only.jobs, self.family)
        return self._two_passes(request)

    def _two_passes(self, request: Request) -> Plan:
        size = request.size
        first = replace(
            request,
            enlarging=Enlarging(),
            answer=replace(request.answer, output_type="pil"),
            # Without tiles of its own, the overlap is that of the second pass's.
            size=size if size.tile else replace(size, tile_overlap=None),
        )
        plan = self._pass(first, self._original(first.picture))
        return replace(plan, then=self._enlarging_pass(request, plan.visible))

    def _enlarging_pass(self, request: Request, picture: Pixels) -> Plan:
        """From a picture of that size, which is still to come."""
        asked, size = request.enlarging, request.size
        assert asked.enlarge is not None
        enlargement = Enlargement(asked.enlarge, self.family.multiple)
        width, height = enlargement.canvas_size(picture)
        strength, scale = asked.enlarge_strength, asked.enlarge_guidance_scale
        second = replace(
            request,
            enlarging=Enlarging(),
            picture=Picture(strength=ENLARGING_STRENGTH if strength is None else strength),
            sampling=replace(
                request.sampling,
                guidance_scale=ENLARGING_GUIDANCE if scale is None else scale,
            ),
            noise=replace(request.noise, noise_seed=None, latents=None),
            size=replace(
                size,
                width=width,
                height=height,
                tile=size.tile or self.family.recommended.size,
            ),
        )
        visible = enlargement.size(picture)
        return replace(self._pass(second, None, enlargement), visible=visible)

    def _original(self, picture: Picture) -> Original | None:
        return Original.read(
            picture.image,
            picture.mask_image,
            mask_invert=picture.mask_invert,
            mask_blur=picture.mask_blur,
            resize=picture.resize,
            keep_unmasked=picture.keep_unmasked,
        )

    def _pass(
        self,
        request: Request,
        original: Original | None,
        enlargement: Enlargement | None = None,
    ) -> Plan:
        """One pass: from the picture `original`, or one that is still to come, or from text."""
        family, sampling = self.family, request.sampling
        pictured = original is not None or enlargement is not None
        if pictured and family.encodes_pictures:
            family.bundle.graph("vae_encoder", self.format)
        masked = original is not None and original.mask is not None
        controls = Controls.of(
            self.controlnets, request.control, _CONTROL_SCALES[pictured + masked]
        )
        caching = Caching.of(request.reuse, family.cuts, family.bundle.name)
        settings = self._settings(request, original, controls, caching, pictured=pictured)
        tiles = self._tiles(request, settings)
        span = Span.of(
            sampling.denoising_start,
            sampling.denoising_end,
            latents=request.noise.latents is not None,
            image=pictured,
        )
        jobs = request.jobs()
        texts, negatives = [job.prompt for job in jobs], [""]
        if settings.guidance.guides:
            negatives = [job.negative or "" for job in jobs]
        scheduler = family.scheduler(settings)
        timesteps = span.timesteps(scheduler)
        if pictured and family.skips_steps:
            first = _first_step(scheduler, settings)
            timesteps = range(first, timesteps.stop)
        all_steps, painted = len(scheduler.timesteps), (settings.width, settings.height)
        kept = original is not None and original.keep_unmasked
        prompts = self._read(request, [*texts, *negatives], settings, all_steps)
        if any(prompts[text].others for text in negatives):
            raise PromptError("negative_prompt is the prompt itself, which AND joins; give another")
        return Plan(
            request=request,
            settings=settings,
            jobs=jobs,
            prompts=prompts,
            tiles=tiles,
            vae_tiles=self._vae_tiles(request, tiles),
            caching=caching,
            controls=controls,
            original=original,
            enlargement=enlargement,
            visible=original.picture.size if original and kept else painted,
            latents=self._latents(request, settings),
            span=span,
            timesteps=timesteps,
            safety=chosen(family.bundle, request.answer.safety, self.format),
            then=None,
            carry_out=self.carry_out,
        )

    def _settings(
        self,
        request: Request,
        original: Original | None,
        controls: Controls | None,
        caching: Caching | None,
        *,
        pictured: bool,
    ) -> Settings:
        family, picture, sampling = self.family, request.picture, request.sampling
        recommended = family.recommended
        family.check_call(picture, request.family_options)
        if picture.strength is not None and not pictured:
            raise SettingError(
                Message(
                    "{strength} says how far {image} is changed, and there is none; give {image}"
                )
            )
        width, height = self._size(request, original, controls)
        steps = sampling.num_inference_steps
        steps = recommended.steps if steps is None else steps
        if steps < 1:
            raise SettingError(Message("{num_inference_steps} is {0}; give 1 or more", steps))
        scale = sampling.guidance_scale
        scale = float(recommended.guidance_scale if scale is None else scale)
        start, stop = sampling.guidance_start, sampling.guidance_stop
        if not 0 <= start < stop <= 1:
            raise SettingError(
                Message(
                    "{guidance_start} is {0:g} and {guidance_stop} {1:g}; give shares of the "
                    "steps, 0 <= start < stop <= 1",
                    start,
                    stop,
                )
            )
        if not 0 <= sampling.eta <= 1:
            raise SettingError(Message("{eta} is {0:g}; give 0 to 1", sampling.eta))
        if original and original.keep_unmasked and request.answer.output_type == "latent":
            raise SettingError(
                Message("{keep_unmasked} is about pictures; {output_type} 'latent' gives none")
            )
        family.check_clip_skip(request.prompting.clip_skip)
        self._check_decoder(request)
        strength, drawn_from = _strength(original, picture.strength), 1.0
        scheduler = sampling.scheduler or recommended.scheduler
        if family.draws_all_steps(scheduler, picture):
            strength, drawn_from = 1.0, strength
        keeps = caching is not None and caching.keeps_guidance
        guidance = family.guidance(scale, request.family_options)
        guidance = rescaled(guidance, sampling.guidance_rescale)
        return Settings(
            width=width,
            height=height,
            steps=steps,
            scheduler=scheduler,
            eta=float(sampling.eta),
            guidance_scale=scale,
            guidance=replace(guidance, start=float(start), stop=float(stop), kept=keeps),
            strength=strength,
            drawn_from=drawn_from,
            canvas=family.canvas(original, width, height) if original else None,
            options=request.family_options,
        )

    def _size(
        self, request: Request, original: Original | None, controls: Controls | None
    ) -> Pixels:
        """Width and height as asked for, else the picture's, else what the model knows best."""
        family, size, multiple = self.family, request.size, self.family.multiple
        width, height = size.width, size.height
        if width is None or height is None:
            trained = family.recommended.size
            source, usual = original or controls, (trained, trained)
            if source is not None:
                usual = self._picture_size(source, size)
            width = usual[0] if width is None else width
            height = usual[1] if height is None else height
        width, height = checked_size(width, height, multiple)
        self._remark((width, height), size.tile)
        return width, height

    def _picture_size(self, source: Original | Controls, size: Size) -> Pixels:
        """A picture's size; one far larger than the model's own is scaled down to that."""
        family, trained = self.family, self.family.recommended.size
        across, down = source.size(family.multiple // family.upscales)
        own = across * family.upscales, down * family.upscales
        if size.tile is not None or not sizing.is_large(own, trained):
            return own
        if family.upscales > 1:  # what is to be made larger is not made smaller first
            log.warning(
                Message(
                    "{0[0]}x{0[1]} pixels are to be painted and {1} was trained on {2}x{2}; give "
                    "{tile} to paint them in parts",
                    own,
                    family.bundle.name,
                    trained,
                )
            )
            return own
        one = size.width is not None or size.height is not None
        shape = source.picture.size
        painted = (
            sizing.completed(shape, size.width, size.height, family.multiple)
            if one
            else sizing.scaled_to(shape, trained, family.multiple)
        )
        log.warning(
            Message(
                "the picture of {0[0]}x{0[1]} is painted at {1[0]}x{1[1]}, near the {2}x{2} that "
                "{3} was trained on; for another size give {width} and {height}, or {tile} to "
                "paint all of it in parts",
                shape,
                painted,
                trained,
                family.bundle.name,
            )
        )
        return painted

    def _remark(self, size: Pixels, tile: int | None) -> None:
        """One line about a size that the model was not trained for."""
        family, trained = self.family, self.family.recommended.size
        if tile is None and family.upscales == 1 and (words := sizing.remark(size, trained)):
            log.warning(
                Message(
                    "{0[0]}x{0[1]} is far from the {1}x{1} that {2} was trained on: " + words,
                    size,
                    trained,
                    family.bundle.name,
                )
            )

    def _tiles(self, request: Request, settings: Settings) -> Tiles:
        """The tiles that are denoised together; one where none are asked for."""
        tiles, family = self._asked_tiles(request, settings), self.family
        side = max(tiles.tile) * family.space.factor
        if family.largest is not None and side > family.largest:
            raise SettingError(
                Message(
                    "{0} paints at most {1} pixels a side at once, and {2} are asked for; give a "
                    "smaller {width} and {height}, or {tile} to paint in parts",
                    family.bundle.name,
                    family.largest,
                    side,
                )
            )
        return tiles

    def _asked_tiles(self, request: Request, settings: Settings) -> Tiles:
        """Those of the size that is asked for, whatever the denoiser takes."""
        asked, factor, multiple = request.size, self.family.space.factor, self.family.multiple
        grid = settings.height // factor, settings.width // factor
        overlap = asked.tile_overlap
        if asked.tile is None:
            if overlap is not None:
                raise SettingError(
                    Message("{tile_overlap} says how far tiles overlap; give {tile}, their size")
                )
            return Tiles.covering(grid)
        side = _side("tile", asked.tile, multiple)
        most = side // 2 // multiple * multiple
        overlap = side // 4 // multiple * multiple if overlap is None else overlap
        if overlap not in range(0, most + 1, multiple):
            raise SettingError(
                Message(
                    "{tile_overlap} is {0}; give a multiple of {1} from 0 to {2}, half of a tile "
                    "of {3}",
                    overlap,
                    multiple,
                    most,
                    side,
                )
            )
        return Tiles.covering(grid, side // factor, overlap // factor)

    def _vae_tiles(self, request: Request, tiles: Tiles) -> Tiles:
        """What the VAE is given; by diffusers' rule all at once where a tile of its holds it."""
        space, tiling = self.family.space, request.size.vae_tiling
        side = space.sample_size // space.factor
        if len(tiles.windows) > 1 or max(tiles.size) <= side:
            return tiles
        large = math.prod(tiles.size) * space.factor**2 > _WHOLE
        if tiling == "on" or (tiling == "auto" and large):
            return Tiles.as_diffusers(tiles.size, side)
        return tiles

    def _check_decoder(self, request: Request) -> None:
        graphs = self.family.bundle.graphs[self.format]
        if request.size.vae == "tiny" and "vae_decoder_tiny" not in graphs:
            raise SettingError(
                f"{self.family.bundle.name} has no tiny decoder; "
                "export it anew with: pleinair-export --tiny-vae"
            )

    def _latents(self, request: Request, settings: Settings) -> Array | None:
        """The start noise of every image, where it is not drawn from its own seed."""
        latents, seed = request.noise.latents, request.noise.noise_seed
        shape = self.family.space.shape(settings.width, settings.height)
        if latents is not None:
            if latents.shape != shape:
                raise SettingError(f"latents are of shape {latents.shape}; this size needs {shape}")
            if not np.isfinite(latents).all():
                raise SettingError("latents hold values that are no numbers; give finite ones")
        if seed is None:
            return latents
        if latents is not None:
            raise SettingError("latents are the start noise, and noise_seed is too; give one")
        return TorchNoise(consecutive(seed, 1, "noise_seed")[0]).normal(shape)

    def _read(
        self, request: Request, texts: Sequence[str], settings: Settings, steps: int
    ) -> dict[str, TokenizedPrompt]:
        """Text -> its tokens, for as many steps as there are."""
        prompting = request.prompting

        def reader(text: str) -> Any:
            return self.family.read(
                text,
                syntax=prompting.syntax,
                long_prompt=prompting.long_prompt,
                options=request.family_options,
            )

        asked = set(request.prompts)
        found = {
            text: (joined if text in asked else tokenized)(reader, text, steps, prompting.syntax)
            for text in dict.fromkeys(texts)
        }
        if any(prompt.others for prompt in found.values()):
            self._check_joins(settings)
        return found

    def _check_joins(self, settings: Settings) -> None:
        """Raise SettingError where prompts that AND joins cannot be painted."""
        guidance, name = settings.guidance, self.family.bundle.name
        if not guidance.joins:
            raise SettingError(
                f"AND joins prompts by guidance, and {name} is not guided by a prompt alone at "
                f"guidance_scale {settings.guidance_scale:g}; give another guidance_scale (of an "
                "enlarging pass enlarge_guidance_scale), write one prompt, or take AND as text by "
                'syntax "plain"'
            )
        if (guidance.start, guidance.stop) != (0.0, 1.0):
            raise SettingError(
                "AND joins prompts by guidance, which guidance_start and guidance_stop leave out "
                "of some steps; leave them out, or write one prompt"
            )


def is_enlarged_as_it_is(request: Request) -> bool:
    """Whether the picture to start from is itself what is enlarged: nothing says to change it."""
    picture = request.picture
    asked = request.enlarging.enlarge is not None and picture.image is not None
    return asked and picture.strength is None and picture.mask_image is None


def _held(request: Request) -> Request:
    """With the bytes of open files in their place: two passes read a ControlNet's picture twice."""
    picture, control = request.picture, request.control
    followed: Any = control.control_image
    several = isinstance(followed, list)
    follows = [held(one, "control_image") for one in (followed if several else [followed])]
    return replace(
        request,
        picture=replace(
            picture,
            image=held(picture.image, "image"),
            mask_image=held(picture.mask_image, "mask_image"),
        ),
        control=replace(control, control_image=follows if several else follows[0]),
    )


def _brought_to_size(request: Request) -> Image.Image:
    """The picture at the width and height that are asked for, if any are."""
    source = request.picture.image
    assert source is not None
    picture, size = over(read(source), "white"), request.size
    width = picture.width if size.width is None else size.width
    height = picture.height if size.height is None else size.height
    if min(width, height) < 1:
        raise SettingError(
            Message("{width} and {height} are {0} and {1}; give 1 or more", width, height)
        )
    enlarge = request.enlarging.enlarge
    assert enlarge is not None
    Enlargement(enlarge, 1).size((width, height))  # before so much memory is asked for
    return Fit.of(picture.size, (width, height), request.picture.resize).lay(picture)


def _seen(batch: Sequence[str], texts: Mapping[str, int]) -> list[int]:
    """The numbers of the texts that a batch of branches sees."""
    return [texts[branch] for branch in batch]


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def checked_size(width: int, height: int, multiple: int) -> Pixels:
    """A size to paint; SettingError where its sides are no multiples, or nobody has the memory."""
    size = _side("width", width, multiple), _side("height", height, multiple)
    if width * height > MOST_PIXELS:
        raise SettingError(
            Message(
                "{width} and {height} are {0} and {1}; give at most {2} million pixels",
                width,
                height,
                MOST_PIXELS // 1_000_000,
            )
        )
    return size


def _side(name: str, pixels: int, multiple: int) -> int:
    if pixels < multiple or pixels % multiple:
        near = max(multiple, round(pixels / multiple) * multiple)
        raise SettingError(
            Message(
                "{0} is {1}; give a multiple of {2}, such as {3}",
                Argument(name),
                pixels,
                multiple,
                near,
            )
        )
    return pixels


def _first_step(scheduler: Scheduler, settings: Settings) -> int:
    steps, strength = settings.steps, settings.strength
    first = scheduler.first_step(steps, strength)
    if first >= steps * scheduler.order:
        raise SettingError(
            Message(
                "{strength} is {0:g}: of {1} steps that leaves none; give at least {2:g}, or more "
                "steps",
                strength,
                steps,
                math.ceil(100 / steps) / 100,
            )
        )
    return first


def _strength(original: Original | None, strength: float | None) -> float:
    if strength is None:
        return _MASKED_STRENGTH if original and original.mask else _STRENGTH
    if not 0 < strength <= 1:
        raise SettingError(
            Message("{strength} is {0:g}; give more than 0, and at most 1", strength)
        )
    return float(strength)
