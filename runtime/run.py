"""One call of the pipeline: prompts to conditioning, noise to latents, latents to pictures."""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .denoise.control import Steering
from .denoise.denoiser import Denoiser
from .denoise.feature_cache import Caching, FeatureCache
from .denoise.guidance import scale_embedding
from .denoise.guidance_interval import GuidanceInterval
from .denoise.noise import TorchNoise
from .denoise.posterior import Posterior
from .denoise.span import Continued, Span
from .denoise.start import Blank, Draws
from .denoise.variation import Variation
from .engines.protocol import Graph, Shapes
from .errors import EngineError
from .families.origin import Origin, origin_of
from .families.sizes import Sizes
from .graphs.cut import Cut
from .images.original import Canvas, Original
from .images.pixels import as_picture, from_decoder
from .model.autoencoder import Half
from .model.bundle import UPSCALING
from .model.safety import SafetyChecker, Verdict, blurred
from .output import PipelineOutput, Timings
from .request import Settings
from .text.conditioning import Conditioning, TokenizedPrompt, condition, tokenized
from .text.encoder import Encoder, TextEncoder
from .text.xl import XLTextEncoder

if TYPE_CHECKING:
    from .pipeline import StableDiffusionPipeline

log = logging.getLogger("pleinair")

Array: TypeAlias = NDArray[np.float32]
StepCallback: TypeAlias = Callable[["StableDiffusionPipeline", int, Any, dict[str, Any]], Any]
StageCallback: TypeAlias = Callable[[str, int, int], object]


@dataclass
class Step:
    """One step of denoising, just done. Latents put in its place are what the next one gets.

    clean: what the latents would be without their noise, as the model sees it at this step.
    """

    index: int
    timestep: Any
    latents: Array
    clean: Array


@dataclass(frozen=True)
class Job:
    """One image."""

    prompt: str
    seed: int
    variation: Variation | None


@dataclass
class Run:
    """One call: its settings and picture, whom it tells, and its clock."""

    pipe: "StableDiffusionPipeline"
    settings: Settings
    sizes: Sizes
    span: Span
    original: Original | None
    canvas: Canvas | None
    steering: Steering | None
    latents: Array | None
    caching: Caching | None
    interval: GuidanceInterval | None
    on_step: StepCallback | None
    tell: StageCallback
    timings: Timings = field(default_factory=Timings)
    loaded: set[str] = field(default_factory=set)
    checker: SafetyChecker | None = None
    verdicts: list[Verdict] = field(default_factory=list)

    def paint(self, jobs: list[Job], negative_prompt: str | None) -> PipelineOutput:
        output = PipelineOutput(timings=self.timings, verdicts=self.verdicts)
        negative_prompt = negative_prompt if self.settings.guidance else ""
        prompts = self.read([*(job.prompt for job in jobs), negative_prompt or ""])
        if self.encodes:
            self.pipe.bundle.graph("vae_encoder", self.pipe.engine.format)
        with self.timings.measure("total"):
            conditionings = self.encode(prompts, negative_prompt, [job.prompt for job in jobs])
            origin = self.origin()
            decoder = self.load(conditionings[jobs[0].prompt])
            for number, job in enumerate(jobs):
                conditioning = conditionings[job.prompt]
                # A prompt of more chunks than the last one's needs another shape.
                denoiser = self.denoiser(conditioning, self.pipe.graph)
                step = None
                for step in self.denoise(denoiser, conditioning, origin, job):
                    if not self.consult(step, number):
                        output.stopped = True
                        return output
                assert step is not None  # a schedule has at least one step
                output.images.append(self.decode(decoder, step.latents, job))
                output.seeds.append(job.seed)
                if job.variation:
                    output.variation_seeds.append(job.variation.seed)
        return output

    def read(self, texts: list[str]) -> dict[str, TokenizedPrompt]:
        """Text -> its tokens, for as many steps as there are; refuses before anything is loaded."""
        scheduler = self.pipe.scheduler(self.settings)
        self.span.steps(scheduler)  # that there are any
        steps = len(scheduler.timesteps)
        syntax, long_prompt = self.settings.syntax, self.settings.long_prompt
        return {
            text: tokenized(self.pipe.tokenizer, text, steps, syntax, long_prompt)
            for text in dict.fromkeys(texts)
        }

    def encode(
        self, read: dict[str, TokenizedPrompt], negative_prompt: str | None, prompts: list[str]
    ) -> dict[str, Conditioning]:
        """Prompt -> what the UNet attends to; guided the batch that the guidance asks for."""
        texts, xl = list(dict.fromkeys(prompts)), self.pipe.bundle.xl
        encoder, guidance = self.text_encoder(), self.settings.guidance
        join = guidance.embeddings if guidance else None
        zero = xl is not None and xl.zero_negative and negative_prompt is None
        negative = None if zero else read[negative_prompt or ""]
        constants = self.constants()
        conditionings = {}
        with self.timings.measure("encode"):
            for i, text in enumerate(texts):
                self.tell("encode", i, len(texts))
                found = condition(encoder, read[text], negative, join, self.settings.clip_skip)
                conditionings[text] = replace(found, constants=constants)
        self.tell("encode", len(texts), len(texts))
        return conditionings

    def text_encoder(self) -> Encoder:
        """The model's one, or Stable Diffusion XL's two; the refiner has the second of them."""
        shapes = {"input_ids": (1, self.pipe.tokenizer.max_length)}
        if self.pipe.bundle.xl is None:
            return TextEncoder(self.graph("text_encoder", shapes))
        second, padded = self.graph("text_encoder_2", shapes), self.pipe.second_padding
        if padded is None:
            return XLTextEncoder(second)
        return XLTextEncoder(second, self.graph("text_encoder", shapes), padded)

    def constants(self) -> dict[str, Array]:
        """What the UNet is told beside the prompt, the same in all steps.

        Sizes; its guidance; of an upscaler how noisy the small picture is.
        """
        bundle, settings = self.pipe.bundle, self.settings
        join = settings.guidance.embeddings if settings.guidance else lambda own, _: own
        told = {}
        if bundle.xl is not None:
            ids = self.sizes.time_ids(settings.width, settings.height, bundle.xl.aesthetic)
            told["time_ids"] = join(*ids)
        if bundle.guidance_width is not None:
            told["timestep_cond"] = scale_embedding(settings.guidance_scale, bundle.guidance_width)
        if settings.noise_level is not None:
            level = np.array([settings.noise_level], np.float32)
            told["class_labels"] = join(level, level)
        return told

    @property
    def encodes(self) -> bool:
        """Whether a picture goes through the VAE's encoder; an upscaler sees its pixels."""
        return self.canvas is not None and self.pipe.bundle.task != UPSCALING

    def load(self, conditioning: Conditioning) -> Half:
        """Compile UNet and VAE for the size asked, or for its tiles; returns the decoder."""
        bundle = self.pipe.bundle
        self.denoiser(conditioning, self.graph)
        part = "vae_decoder_tiny" if self.settings.vae == "tiny" else "vae_decoder"
        decoder = self.half(part, "latent_sample", 1, bundle.vae_scale_factor)
        decoder.prepare(1, bundle.latent_channels)
        if self.checks:
            self.checker = SafetyChecker.of(bundle, self.graph)
        return decoder

    @property
    def checks(self) -> bool:
        """Whether pictures are shown to the safety checker."""
        return self.settings.safety != "off" and self.settings.output_type != "latent"

    def denoiser(self, conditioning: Conditioning, graph: Callable[..., Graph]) -> Denoiser:
        """The UNet, and the ControlNets that add to it; `graph` compiles them."""
        steering, settings, caching = self.steering, self.settings, self.caching
        shapes = self.unet_shapes(conditioning)
        embedding = shapes["encoder_hidden_states"]
        ends = steering.ends(embedding[0]) if steering else None
        unet = graph("unet", shapes, ends, caching.whole if caching else None)
        cache = None
        if caching:
            cache = FeatureCache(caching, graph("unet", shapes, ends, caching.shallow))
        nets = []
        if steering:
            nets = [graph(part, steering.inputs(embedding)) for part in self.pipe.controlnets]
        how = settings.tiles, settings.guidance, self.tell, self.apart, self.interval
        return Denoiser(unet, nets, steering, *how, cache)

    @property
    def apart(self) -> bool:
        """Whether what guidance compares is asked one by one.

        Now all of it is asked, now the prompted half: one graph of a batch of one serves both.
        """
        keeps = self.caching is not None and self.caching.guidance == "kept"
        return self.settings.guidance is not None and (self.interval is not None or keeps)

    def unet_shapes(self, conditioning: Conditioning) -> Shapes:
        channels, tile = self.pipe.bundle.unet_channels, self.settings.tiles.tile
        guidance = self.settings.guidance
        shown = guidance.shown if guidance else 1
        shapes = {"sample": (shown, channels, *tile), **conditioning.shapes}
        return {name: (1, *shape[1:]) for name, shape in shapes.items()} if self.apart else shapes

    def half(self, part: str, name: str, given: int, made: int) -> Half:
        """The VAE's encoder or decoder, in tiles where it is asked for: see `Half`."""
        return Half(
            name,
            given,
            made,
            self.settings.vae_tiles,
            lambda shape: self.graph(part, {name: shape}),
        )

    def origin(self) -> Origin:
        """What the images begin with; a picture goes through the VAE encoder here."""
        bundle, canvas = self.pipe.bundle, self.canvas
        if self.span.start:
            return Continued(self.span)
        if canvas is None:
            return Blank(bundle.latent_shape(self.settings.width, self.settings.height))
        encoder = self.half("vae_encoder", "sample", bundle.vae_scale_factor, 1)
        if self.encodes:
            encoder.prepare(*canvas.pixels.shape[:2])

        tiled = len(encoder.tiling.windows()) > 1
        tell = functools.partial(self.tell, "encode") if tiled else None

        def encode(pixels: Array) -> Posterior:
            encoded = encoder(pixels, tell)
            return Posterior.of(encoded, bundle.latent_channels, bundle.encoding_factor)

        with self.timings.measure("encode"):
            return origin_of(canvas, bundle, self.settings, encode)

    def graph(
        self,
        part: str,
        shapes: Shapes,
        residuals: Shapes | None = None,
        cut: Cut | None = None,
    ) -> Graph:
        """A part of the model, compiled, and the caller told how many of them are."""
        parts = (4 if self.encodes else 3) + len(self.pipe.controlnets) + self.checks
        parts += self.caching is not None
        parts += self.pipe.second_padding is not None
        self.tell("load", len(self.loaded), parts)
        with self.timings.measure("load"):
            graph = self.pipe.graph(part, shapes, residuals, cut)
        self.loaded.add(f"{part}, shallow" if cut and cut.shallow else part)
        self.tell("load", len(self.loaded), parts)
        return graph

    def denoise(
        self, denoiser: Denoiser, conditioning: Conditioning, origin: Origin, job: Job
    ) -> Iterator[Step]:
        """From where the image begins to its latents, a step at a time."""
        scheduler = self.pipe.scheduler(self.settings)
        noise = TorchNoise(job.seed)
        start = origin.begin(scheduler, Draws(noise, self.latents, job.variation))
        last = self.span.steps(scheduler).stop
        latents, timesteps = start.latents, scheduler.timesteps[start.first : last]
        total = len(timesteps)
        for i, t in enumerate(timesteps):
            begun = time.perf_counter()
            sample, told = scheduler.scale_model_input(latents, t), conditioning.inputs(i)
            prediction = denoiser(sample, start, t, told, (i, total))
            clean = scheduler.pred_original_sample(prediction, t, latents)
            drawn = noise.normal(latents.shape) if scheduler.needs_noise(t) else None
            latents = scheduler.step(prediction, t, latents, drawn)
            if start.kept:
                after = timesteps[i + 1] if i + 1 < total else None
                latents = start.kept.around(latents, scheduler, after)
                clean = start.kept.around(clean, scheduler, None)
            self.timings.steps.append(time.perf_counter() - begun)
            step = Step(i, t, latents, clean)
            yield step
            latents = step.latents
        calls = total * len(self.settings.tiles.windows())
        self.tell("denoise", calls, calls)

    def consult(self, step: Step, image: int) -> bool:
        """Show a step to the caller; False where it ends the run."""
        if self.on_step is None:
            return True
        shown = {
            "latents": step.latents,
            "pred_original_sample": step.clean,
            "image": image,
        }
        answer = self.on_step(self.pipe, step.index, step.timestep, shown)
        if isinstance(answer, dict):
            step.latents = answer.get("latents", step.latents)
        return answer is not False

    def decode(self, decoder: Half, latents: Array, job: Job) -> Any:
        """Latents to a picture of the kind asked for; None where it is withheld."""
        if self.settings.output_type == "latent":
            return latents
        bundle, tiny = self.pipe.bundle, self.settings.vae == "tiny"
        with self.timings.measure("decode"):
            factor = bundle.tiny_scaling_factor if tiny else bundle.scaling_factor
            sample = latents / np.float32(factor)
            pixels = from_decoder(decoder(sample, functools.partial(self.tell, "decode")))
            if not np.isfinite(pixels).all():
                raise EngineError(
                    "the model gave values that are no numbers, which would be a black picture; "
                    "compute in full precision (inference_precision f32), or use another scheduler"
                )
            shown = self.judged(self.checker, pixels, job) if self.checker else pixels
        return None if shown is None else self.finish(shown)

    def judged(self, checker: SafetyChecker, pixels: Array, job: Job) -> Array | None:
        """The pixels, or what is left of them where the safety checker finds them unsafe."""
        verdict = checker(as_picture(pixels))
        self.verdicts.append(verdict)
        if not verdict.nsfw:
            return pixels
        blurs = self.settings.safety == "blur"
        log.warning(
            "the picture of seed %d is %s: the safety checker finds it unsafe: %s",
            *(job.seed, "blurred" if blurs else "withheld", verdict),
        )
        return blurred(pixels) if blurs else None

    def finish(self, pixels: Array) -> Any:
        """Pixels 0 to 1 as the kind of picture asked for, in the original where it is kept."""
        kept = self.original if self.original and self.original.keep_unmasked else None
        if self.settings.output_type == "np" and not kept:
            return pixels
        picture = as_picture(pixels)
        if kept:
            picture = kept.around(picture)
        if self.settings.output_type == "np":
            return np.asarray(picture, np.float32) / 255
        return picture
