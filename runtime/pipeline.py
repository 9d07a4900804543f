"""Text, or text and a picture, to latents to picture."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import catalog, schedulers
from .adapters import inversion, lora
from .adapters.inversion import Embedding
from .adapters.lora import Lora
from .adapters.model import changes as adapted
from .bundle import Bundle
from .engines.choice import choose
from .engines.protocol import Engine, Graph, Renamed, Shapes
from .errors import EngineError, SettingError
from .images.original import Canvas, Original
from .images.pixels import as_picture
from .images.preview import LatentColours
from .images.reading import PictureSource
from .noise import TorchNoise
from .origin import Origin, origin_of
from .output import PipelineOutput, Timings
from .posterior import Posterior
from .safety import SafetyChecker, Verdict, blurred, tell_of_unused
from .settings import Settings, consecutive, repeated, seeds_of
from .start import Blank, Draws
from .text.conditioning import Conditioning, TokenizedPrompt, condition, tokenized
from .text.encoder import TextEncoder
from .text.tokenizer import ClipTokenizer
from .variation import Variation

__all__ = ["PipelineOutput", "StableDiffusionPipeline"]

log = logging.getLogger("pleinair")

Array = NDArray[np.float32]
StepCallback = Callable[["StableDiffusionPipeline", int, Any, dict[str, Any]], Any]
StageCallback = Callable[[str, int, int], object]


@dataclass
class Step:
    """One step of denoising, just done. Latents put in its place are what the next one gets.

    clean: what the latents would be without their noise, as the model sees it at this step.
    """

    index: int
    timestep: Any
    latents: Array
    clean: Array


class StableDiffusionPipeline:
    """Stable Diffusion from a converted model folder, in numpy and an inference engine.

    Pictures are painted one after the other: on a CPU a batch of them saves no time and costs its
    multiple in memory, and so the first picture is there early.
    One object serves several threads at once; a call keeps its state to itself.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        loras: Sequence[Lora] = (),
        embeddings: Sequence[Embedding] = (),
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.loras, self.embeddings = tuple(loras), tuple(embeddings)
        tell_of_unused(bundle)
        self.defaults = catalog.defaults(bundle)
        self.tokenizer = ClipTokenizer(bundle.tokenizer)
        words = self.tokenizer.learn(embeddings)
        self._changes = adapted(bundle.graphs[engine.format], loras, words)
        self._compiled: dict[str, tuple[Shapes, Graph]] = {}
        self._compiling = threading.Lock()
        self._colours: LatentColours | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        engine: str = "auto",
        device: str = "auto",
        profile: str = "exact",
        threads: int | None = None,
        cache_dir: str | Path | None = None,
        inference_precision: str | None = "f32",
        tokenizer: str | Path | None = None,
        loras: Sequence[lora.Named] = (),
        embeddings: Sequence[inversion.Named] = (),
    ) -> "StableDiffusionPipeline":
        """Open a converted model: a folder, a catalog name, or a hub id that is on this machine.

        engine: "auto", "openvino" or "onnxruntime".
        device: "auto", "cpu", "cuda", "gpu", or any name the engine knows.
        profile: "exact", the only one so far.
        threads: CPU threads; None leaves it to the engine.
        cache_dir: where OpenVINO keeps compiled models.
        inference_precision: OpenVINO's precision hint; "f32" is exact.
        tokenizer: a folder with the tokenizer's files, for models that come without.
        loras: LoRA, LoHa or LoKr files; each a path, (path, weight) or "path:0.8".
        embeddings: textual inversion; each a path, (path, word) or "path:word".
        Raises BundleError, EngineError, SettingError or AdapterError.
        """
        if profile != "exact":
            raise SettingError(f"profile {profile!r} is unknown; this version has: exact")
        bundle = Bundle.open(catalog.find(model), tokenizer)
        return cls(
            bundle,
            choose(bundle, engine, device, threads, cache_dir, inference_precision),
            [lora.opened(named) for named in loras],
            [inversion.opened(named) for named in embeddings],
        )

    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | None = None,
        *,
        image: PictureSource | None = None,
        mask_image: PictureSource | None = None,
        strength: float | None = None,
        resize: str = "stretch",
        mask_invert: bool = False,
        mask_blur: float = 0.0,
        keep_unmasked: bool = False,
        image_guidance_scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        seed: int | None = None,
        variation_seed: int | None = None,
        variation_strength: float = 0.0,
        noise_seed: int | None = None,
        latents: Array | None = None,
        scheduler: str | None = None,
        vae: str = "full",
        safety: str | None = None,
        clip_skip: int | None = None,
        syntax: str = "webui",
        long_prompt: str = "chunk",
        callback_on_step_end: StepCallback | None = None,
        callback_on_stage: StageCallback | None = None,
        output_type: str = "pil",
    ) -> PipelineOutput:
        """Paint.

        prompt: one text, or several, each painted `num_images_per_prompt` times.
        negative_prompt: what to steer away from; acts only where guidance_scale > 1.
        image: a picture to start from (image to image), to paint in, or to edit, as the model
            does it; a path, a PIL picture of any mode, or an array: see `images.reading.read`.
        mask_image: white where image is painted anew, black where it stays; a picture as above,
            or "alpha": the transparent parts of image.
        strength: how far image is changed, above 0 to 1: that share of the steps is taken. None
            is 0.8, with a mask 1. Models that edit by instruction have image_guidance_scale
            instead: how close to image, None is 1.5; below 1 there is no guidance.
        resize: how image comes to another size: "stretch", "crop" or "pad".
        mask_invert, mask_blur: paint what is black instead; radius of a soft edge, in pixels.
        keep_unmasked: what the mask leaves alone comes back bit for bit, at the size of image.
        width, height: pixels, multiples of 8; None is the size of image rounded down, and
            without image the size the model was trained on.
        num_inference_steps, guidance_scale, scheduler: None is what the catalog recommends for
            the model, else 20 steps, 7.5, its own scheduler. `schedulers.names()` lists names.
        eta: DDIM's noise (Song et al. 2021, eq. 16), 0 to 1; other schedulers ignore it.
        seed: image i is painted from `seed + i`; None draws one.
        variation_strength: 0 to 1, how far the start noise is turned to that of variation_seed
            (drawn if None). Above 0 all images share `seed`; image i varies by
            `variation_seed + i`.
        noise_seed: all images begin with this seed's noise, and draw the rest from their own.
        latents: start noise for every image, (1, channels, height / f, width / f), f the VAE's
            scale factor; None draws it from the seed.
        vae: "full", or "tiny" for the folder's tiny decoder: fast, and a little softer.
        safety: what becomes of a picture that the model's safety checker finds unsafe: "on"
            withholds it, images has None in its place; "blur" leaves its colours; "off" asks
            nothing. Why is in the output's verdicts, and logged. None is "on" where the model has
            a checker. Latents are not checked.
        clip_skip: take the text encoder's layer this many before the last.
        syntax: "webui" reads weights `(word:1.3)`, BREAK, `[from:to:0.5]` and `[a|b]` in both
            prompts; "plain" takes every character as text, as diffusers does. Prompts without
            brackets, backslashes and BREAK are the same in both.
        long_prompt: what becomes of a prompt of more than 75 tokens: "chunk" reads all of it in
            chunks, "stop" raises PromptError, "truncate" cuts it, as diffusers does, and warns.
        callback_on_step_end: called as in diffusers, (pipe, step, timestep, {"latents",
            "pred_original_sample", "image"}): what is in work, the same as it would be without
            its noise, fit for `preview`, and the image's number. It may return a dict with new
            "latents", or False to end the run.
        callback_on_stage: called with (stage, done, total) as "load", "encode", "denoise" and
            "decode" begin and advance.
        output_type: "pil", "np" or "latent": see PipelineOutput.
        Raises SettingError, SchedulerError or PromptError, before any work, for bad arguments.
        """
        original = Original.read(
            image,
            mask_image,
            mask_invert=mask_invert,
            mask_blur=mask_blur,
            resize=resize,
            keep_unmasked=keep_unmasked,
        )
        settings = Settings.checked(
            self.bundle,
            self.defaults,
            width=width,
            height=height,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            eta=eta,
            scheduler=scheduler,
            clip_skip=clip_skip,
            syntax=syntax,
            long_prompt=long_prompt,
            output_type=output_type,
            original=original,
            strength=strength,
            image_guidance_scale=image_guidance_scale,
            vae=vae,
            safety=safety,
        )
        shape = self.bundle.latent_shape(settings.width, settings.height)
        if latents is not None and latents.shape != shape:
            raise SettingError(f"latents are of shape {latents.shape}; this size needs {shape}")
        if noise_seed is not None:
            if latents is not None:
                raise SettingError("latents are the start noise, and noise_seed is too; give one")
            latents = TorchNoise(consecutive(noise_seed, 1, "noise_seed")[0]).normal(shape)
        size, factor = (settings.width, settings.height), self.bundle.vae_scale_factor
        canvas = original.canvas(size, factor) if original else None
        prompts = repeated(prompt, num_images_per_prompt)
        seeds = seeds_of(seed, variation_seed, variation_strength, len(prompts))
        jobs = [_Job(text, *numbers) for text, numbers in zip(prompts, seeds, strict=True)]
        tell = callback_on_stage or (lambda *_: None)
        run = _Run(self, settings, original, canvas, latents, callback_on_step_end, tell)
        return run.paint(jobs, negative_prompt or "")

    def start_noise(self, seed: int, width: int | None = None, height: int | None = None) -> Array:
        """The noise that a picture of this seed and size begins with, for `latents`."""
        size = self.defaults.size
        return TorchNoise(seed).normal(self.bundle.latent_shape(width or size, height or size))

    def preview(self, latents: Array) -> Image.Image:
        """A picture of latents, (1, channels, rows, columns), in a moment; at full size.

        Best of a callback's "pred_original_sample". By the folder's tiny decoder where it has one,
        else by a linear map from latents to colours.
        """
        bundle = self.bundle
        latents = np.nan_to_num(latents)
        if "vae_decoder_tiny" in bundle.graphs[self.engine.format]:
            tiny = self.graph("vae_decoder_tiny", {"latent_sample": latents.shape})
            return as_picture(_decoded(tiny, latents, bundle.tiny_scaling_factor))

        def decode(sample: Array) -> Array:
            decoder = self.graph("vae_decoder", {"latent_sample": sample.shape})
            return _decoded(decoder, sample, bundle.scaling_factor)

        if self._colours is None:
            self._colours = LatentColours.of(bundle, latents.shape, decode)
        return self._colours.picture(latents, bundle.vae_scale_factor)

    def graph(self, part: str, shapes: Shapes) -> Graph:
        """A part of the model, compiled for these shapes and kept until others are asked for.

        Only one size is kept, so that a server that is asked for many holds the weights once.
        """
        with self._compiling:
            kept, graph = self._compiled.get(part, (None, None))
            if graph is None or kept != shapes:
                self._compiled.pop(part, None)
                path = self.bundle.graph(part, self.engine.format)
                names = self.bundle.input_names.get(part, {})
                named = {names.get(name, name): shape for name, shape in shapes.items()}
                compiled = self.engine.compile(path, named, self._changes.get(part))
                graph = Renamed(compiled, names)
                self._compiled[part] = shapes, graph
            return graph

    def scheduler(self, settings: Settings) -> schedulers.Scheduler:
        """A fresh scheduler for one picture, its timesteps set."""
        config = {**self.bundle.scheduler, "eta": settings.eta}  # read by those that have one
        scheduler = schedulers.from_config(config, name=settings.scheduler)
        scheduler.set_timesteps(settings.steps)
        return scheduler


@dataclass(frozen=True)
class _Job:
    """One image."""

    prompt: str
    seed: int
    variation: Variation | None


@dataclass
class _Run:
    """One call: its settings and picture, whom it tells, and its clock."""

    pipe: StableDiffusionPipeline
    settings: Settings
    original: Original | None
    canvas: Canvas | None
    latents: Array | None
    on_step: StepCallback | None
    tell: StageCallback
    timings: Timings = field(default_factory=Timings)
    loaded: int = 0
    checker: SafetyChecker | None = None
    verdicts: list[Verdict] = field(default_factory=list)

    def paint(self, jobs: list[_Job], negative_prompt: str) -> PipelineOutput:
        output = PipelineOutput(timings=self.timings, verdicts=self.verdicts)
        negative_prompt = negative_prompt if self.settings.guidance else ""
        prompts = self.read([*(job.prompt for job in jobs), negative_prompt])
        if self.canvas:
            self.pipe.bundle.graph("vae_encoder", self.pipe.engine.format)
        with self.timings.measure("total"):
            conditionings = self.encode(prompts, negative_prompt, [job.prompt for job in jobs])
            origin = self.origin()
            _, decoder = self.load(conditionings[jobs[0].prompt].shape)
            for number, job in enumerate(jobs):
                conditioning = conditionings[job.prompt]
                # A prompt of more chunks than the last one's needs another shape.
                unet = self.pipe.graph("unet", self.unet_shapes(conditioning.shape))
                step = None
                for step in self.denoise(unet, conditioning, origin, job):
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
        steps = len(self.pipe.scheduler(self.settings).timesteps)
        syntax, long_prompt = self.settings.syntax, self.settings.long_prompt
        return {
            text: tokenized(self.pipe.tokenizer, text, steps, syntax, long_prompt)
            for text in dict.fromkeys(texts)
        }

    def encode(
        self, read: dict[str, TokenizedPrompt], negative_prompt: str, prompts: list[str]
    ) -> dict[str, Conditioning]:
        """Prompt -> what the UNet attends to; guided the batch that the guidance asks for."""
        tokenizer, texts = self.pipe.tokenizer, list(dict.fromkeys(prompts))
        graph = self.graph("text_encoder", {"input_ids": (1, tokenizer.max_length)})
        encoder, guidance = TextEncoder(graph), self.settings.guidance
        join = guidance.embeddings if guidance else None
        conditionings = {}
        with self.timings.measure("encode"):
            for i, text in enumerate(texts):
                self.tell("encode", i, len(texts))
                conditionings[text] = condition(
                    encoder, read[text], read[negative_prompt], join, self.settings.clip_skip
                )
        self.tell("encode", len(texts), len(texts))
        return conditionings

    def load(self, embedding: tuple[int, ...]) -> tuple[Graph, Graph]:
        """UNet and VAE decoder, compiled for the size asked."""
        bundle = self.pipe.bundle
        shape = bundle.latent_shape(self.settings.width, self.settings.height)
        unet = self.graph("unet", self.unet_shapes(embedding))
        tiny = self.settings.vae == "tiny"
        decoder = self.graph(
            "vae_decoder_tiny" if tiny else "vae_decoder", {"latent_sample": shape}
        )
        if self.checks:
            self.checker = SafetyChecker.of(bundle, self.graph)
        return unet, decoder

    @property
    def checks(self) -> bool:
        """Whether pictures are shown to the safety checker."""
        return self.settings.safety != "off" and self.settings.output_type != "latent"

    def unet_shapes(self, embedding: tuple[int, ...]) -> Shapes:
        bundle = self.pipe.bundle
        rows, columns = bundle.latent_shape(self.settings.width, self.settings.height)[2:]
        sample = (embedding[0], bundle.unet_channels, rows, columns)
        return {"sample": sample, "encoder_hidden_states": embedding}

    def origin(self) -> Origin:
        """What the images begin with; a picture goes through the VAE encoder here."""
        bundle, canvas = self.pipe.bundle, self.canvas
        if canvas is None:
            return Blank(bundle.latent_shape(self.settings.width, self.settings.height))
        encoder = self.graph("vae_encoder", {"sample": canvas.pixels.shape})

        def encode(pixels: Array) -> Posterior:
            encoded = _only(encoder({"sample": pixels}))
            return Posterior.of(encoded, bundle.latent_channels, bundle.encoding_factor)

        with self.timings.measure("encode"):
            return origin_of(canvas, bundle, self.settings, encode)

    def graph(self, part: str, shapes: Shapes) -> Graph:
        """A part of the model, compiled, and the caller told how many of them are."""
        parts = 3 + bool(self.canvas) + self.checks
        self.tell("load", self.loaded, parts)
        with self.timings.measure("load"):
            graph = self.pipe.graph(part, shapes)
        self.loaded += 1
        self.tell("load", self.loaded, parts)
        return graph

    def denoise(
        self, unet: Graph, conditioning: Conditioning, origin: Origin, job: _Job
    ) -> Iterator[Step]:
        """From where the image begins to its latents, a step at a time."""
        scheduler = self.pipe.scheduler(self.settings)
        noise = TorchNoise(job.seed)
        start = origin.begin(scheduler, Draws(noise, self.latents, job.variation))
        latents, timesteps = start.latents, scheduler.timesteps[start.first :]
        total = len(timesteps)
        for i, t in enumerate(timesteps):
            self.tell("denoise", i, total)
            begun = time.perf_counter()
            sample, embedding = scheduler.scale_model_input(latents, t), conditioning.at(i)
            prediction = self.predict(unet, start.shown(sample, len(embedding)), t, embedding)
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
        self.tell("denoise", total, total)

    def predict(self, unet: Graph, shown: Array, t: Any, embedding: Array) -> Array:
        """What the UNet says of a sample, made one answer by the guidance."""
        feeds = {"sample": shown, "timestep": np.asarray(t), "encoder_hidden_states": embedding}
        prediction = _only(unet(feeds))
        guidance = self.settings.guidance
        return guidance.steer(prediction) if guidance else prediction

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

    def decode(self, decoder: Graph, latents: Array, job: _Job) -> Any:
        """Latents to a picture of the kind asked for; None where it is withheld."""
        if self.settings.output_type == "latent":
            return latents
        bundle = self.pipe.bundle
        tiny = self.settings.vae == "tiny"
        self.tell("decode", 0, 1)
        with self.timings.measure("decode"):
            factor = bundle.tiny_scaling_factor if tiny else bundle.scaling_factor
            pixels = _decoded(decoder, latents, factor)
            if not np.isfinite(pixels).all():
                raise EngineError(
                    "the model gave values that are no numbers, which would be a black picture; "
                    "compute in full precision (inference_precision f32), or use another scheduler"
                )
            shown = self.judged(self.checker, pixels, job) if self.checker else pixels
        self.tell("decode", 1, 1)
        return None if shown is None else self.finish(shown)

    def judged(self, checker: SafetyChecker, pixels: Array, job: _Job) -> Array | None:
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


def _decoded(decoder: Graph, latents: Array, scaling_factor: float) -> Array:
    """Pixels 0 to 1, (height, width, 3)."""
    decoded = _only(decoder({"latent_sample": latents / np.float32(scaling_factor)}))
    pixels: Array = np.clip(decoded[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1)
    return pixels


def _only(outputs: dict[str, Array]) -> Array:
    return next(iter(outputs.values()))
