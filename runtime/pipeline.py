"""Text to latents to picture."""

import contextlib
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
from .bundle import Bundle
from .engines.choice import choose
from .engines.protocol import Engine, Graph, Renamed, Shapes
from .errors import EngineError, SettingError
from .noise import TorchNoise
from .settings import Settings, consecutive, repeated
from .text.encoder import TextEncoder
from .text.tokenizer import ClipTokenizer

Array = NDArray[np.float32]
StepCallback = Callable[["StableDiffusionPipeline", int, Any, dict[str, Any]], Any]
StageCallback = Callable[[str, int, int], object]


@dataclass
class Timings:
    """Seconds spent: compiling graphs, encoding prompts, each denoising step, decoding, in all."""

    load: float = 0.0
    encode: float = 0.0
    steps: list[float] = field(default_factory=list)
    decode: float = 0.0
    total: float = 0.0

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        setattr(self, stage, getattr(self, stage) + time.perf_counter() - begun)


@dataclass
class PipelineOutput:
    """What a call returns.

    images: PIL pictures; or float32 arrays (height, width, 3) in [0, 1]; or latents (1, c, h, w).
    seeds: the seed of each image; painted alone from it, the image comes out the same.
    stopped: a callback ended the run; images holds those finished before.
    """

    images: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)
    stopped: bool = False


@dataclass
class Step:
    """One step of denoising, just done. Latents put in its place are what the next one gets."""

    index: int
    timestep: Any
    latents: Array


class StableDiffusionPipeline:
    """Stable Diffusion from a converted model folder, in numpy and an inference engine.

    Pictures are painted one after the other: on a CPU a batch of them saves no time and costs its
    multiple in memory, and so the first picture is there early.
    One object serves several threads at once; a call keeps its state to itself.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = engine
        self.defaults = catalog.defaults(bundle)
        self.tokenizer = ClipTokenizer(bundle.tokenizer)
        self._compiled: dict[str, tuple[Shapes, Graph]] = {}
        self._compiling = threading.Lock()

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
    ) -> "StableDiffusionPipeline":
        """Open a converted model: a folder, a catalog name, or a hub id that is on this machine.

        engine: "auto", "openvino" or "onnxruntime".
        device: "auto", "cpu", "cuda", "gpu", or any name the engine knows.
        profile: "exact", the only one so far.
        threads: CPU threads; None leaves it to the engine.
        cache_dir: where OpenVINO keeps compiled models.
        inference_precision: OpenVINO's precision hint; "f32" is exact.
        tokenizer: a folder with the tokenizer's files, for models that come without.
        Raises BundleError, EngineError or SettingError.
        """
        if profile != "exact":
            raise SettingError(f"profile {profile!r} is unknown; this version has: exact")
        bundle = Bundle.open(catalog.find(model), tokenizer)
        return cls(bundle, choose(bundle, engine, device, threads, cache_dir, inference_precision))

    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | None = None,
        *,
        width: int | None = None,
        height: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        seed: int | None = None,
        latents: Array | None = None,
        scheduler: str | None = None,
        clip_skip: int | None = None,
        callback_on_step_end: StepCallback | None = None,
        callback_on_stage: StageCallback | None = None,
        output_type: str = "pil",
    ) -> PipelineOutput:
        """Paint.

        prompt: one text, or several, each painted `num_images_per_prompt` times.
        negative_prompt: what to steer away from; acts only where guidance_scale > 1.
        width, height: pixels, multiples of 8; None is the size the model was trained on.
        num_inference_steps, guidance_scale, scheduler: None is what the catalog recommends for
            the model, else 20 steps, 7.5, its own scheduler. `schedulers.names()` lists names.
        eta: DDIM's noise (Song et al. 2021, eq. 16), 0 to 1; other schedulers ignore it.
        seed: image i is painted from `seed + i`; None draws one.
        latents: start noise for every image, (1, channels, height / f, width / f), f the VAE's
            scale factor; None draws it from the seed.
        clip_skip: take the text encoder's layer this many before the last.
        callback_on_step_end: called as in diffusers, (pipe, step, timestep, {"latents", "image"}),
            "image" being the image's number. It may return a dict with new "latents", or False
            to end the run.
        callback_on_stage: called with (stage, done, total) as "load", "encode", "denoise" and
            "decode" begin and advance.
        output_type: "pil", "np" or "latent": see PipelineOutput.
        Raises SettingError, SchedulerError or PromptError, before any work, for bad arguments.
        """
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
            output_type=output_type,
        )
        shape = self.bundle.latent_shape(settings.width, settings.height)
        if latents is not None and latents.shape != shape:
            raise SettingError(f"latents are of shape {latents.shape}; this size needs {shape}")
        prompts = repeated(prompt, num_images_per_prompt)
        seeds = consecutive(seed, len(prompts))
        run = _Run(self, settings, callback_on_step_end, callback_on_stage or (lambda *_: None))
        return run.paint(prompts, negative_prompt or "", seeds, latents)

    def start_noise(self, seed: int, width: int | None = None, height: int | None = None) -> Array:
        """The noise that a picture of this seed and size begins with, for `latents`."""
        size = self.defaults.size
        return TorchNoise(seed).normal(self.bundle.latent_shape(width or size, height or size))

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
                graph = Renamed(self.engine.compile(path, named), names)
                self._compiled[part] = shapes, graph
            return graph

    def scheduler(self, settings: Settings) -> schedulers.Scheduler:
        """A fresh scheduler for one picture, its timesteps set."""
        config = {**self.bundle.scheduler, "eta": settings.eta}  # read by those that have one
        scheduler = schedulers.from_config(config, name=settings.scheduler)
        scheduler.set_timesteps(settings.steps)
        return scheduler


@dataclass
class _Run:
    """One call: its settings, whom it tells, and its clock."""

    pipe: StableDiffusionPipeline
    settings: Settings
    on_step: StepCallback | None
    tell: StageCallback
    timings: Timings = field(default_factory=Timings)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        return self.pipe.bundle.latent_shape(self.settings.width, self.settings.height)

    def paint(
        self, prompts: list[str], negative_prompt: str, seeds: list[int], latents: Array | None
    ) -> PipelineOutput:
        output = PipelineOutput(timings=self.timings)
        self.pipe.scheduler(self.settings)  # refuses before anything is loaded
        with self.timings.measure("total"):
            embeddings = self.encode(prompts, negative_prompt)
            unet, decoder = self.load(embeddings[prompts[0]].shape)
            for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
                step = None
                for step in self.denoise(unet, embeddings[prompt], seed, latents):
                    if not self.consult(step, number):
                        output.stopped = True
                        return output
                assert step is not None  # a schedule has at least one step
                output.images.append(self.decode(decoder, step.latents))
                output.seeds.append(seed)
        return output

    def encode(self, prompts: list[str], negative_prompt: str) -> dict[str, Array]:
        """Prompt -> embedding (1, tokens, width); guided (2, …), the negative prompt's first."""
        tokenizer, texts = self.pipe.tokenizer, list(dict.fromkeys(prompts))
        self.tell("load", 0, 3)
        with self.timings.measure("load"):
            graph = self.pipe.graph("text_encoder", {"input_ids": (1, tokenizer.max_length)})
        encoder = TextEncoder(tokenizer, graph)
        embeddings = {}
        with self.timings.measure("encode"):
            for i, text in enumerate(texts):
                self.tell("encode", i, len(texts))
                embeddings[text] = encoder(text, self.settings.clip_skip)
            if self.settings.guided:
                # All layers, as diffusers has it: clip_skip is for the prompt alone.
                negative = encoder(negative_prompt)
                embeddings = {
                    text: np.concatenate([negative, own]) for text, own in embeddings.items()
                }
        self.tell("encode", len(texts), len(texts))
        return embeddings

    def load(self, embedding: tuple[int, ...]) -> tuple[Graph, Graph]:
        """UNet and VAE decoder, compiled for the size asked."""
        shape = self.latent_shape
        both = (embedding[0], *shape[1:])
        with self.timings.measure("load"):
            self.tell("load", 1, 3)
            unet = self.pipe.graph("unet", {"sample": both, "encoder_hidden_states": embedding})
            self.tell("load", 2, 3)
            decoder = self.pipe.graph("vae_decoder", {"latent_sample": shape})
            self.tell("load", 3, 3)
        return unet, decoder

    def denoise(
        self, unet: Graph, embedding: Array, seed: int, latents: Array | None
    ) -> Iterator[Step]:
        """From noise to latents, a step at a time."""
        scheduler = self.pipe.scheduler(self.settings)
        noise = TorchNoise(seed)
        if latents is None:
            latents = noise.normal(self.latent_shape)
        latents = latents * np.float32(scheduler.init_noise_sigma)
        total = len(scheduler.timesteps)
        for i, t in enumerate(scheduler.timesteps):
            self.tell("denoise", i, total)
            begun = time.perf_counter()
            sample = scheduler.scale_model_input(latents, t)
            prediction = self.predict(unet, sample, t, embedding)
            drawn = noise.normal(latents.shape) if scheduler.needs_noise(t) else None
            latents = scheduler.step(prediction, t, latents, drawn)
            self.timings.steps.append(time.perf_counter() - begun)
            step = Step(i, t, latents)
            yield step
            latents = step.latents
        self.tell("denoise", total, total)

    def predict(self, unet: Graph, sample: Array, t: Any, embedding: Array) -> Array:
        """What the UNet says of a sample, steered by classifier-free guidance (eq. 6)."""
        both = np.repeat(sample, len(embedding), axis=0)
        feeds = {"sample": both, "timestep": np.asarray(t), "encoder_hidden_states": embedding}
        prediction = _only(unet(feeds))
        if not self.settings.guided:
            return prediction
        unguided, guided = prediction[:1], prediction[1:]
        steered: Array = unguided + self.settings.guidance_scale * (guided - unguided)
        return steered

    def consult(self, step: Step, image: int) -> bool:
        """Show a step to the caller; False where it ends the run."""
        if self.on_step is None:
            return True
        shown = {"latents": step.latents, "image": image}
        answer = self.on_step(self.pipe, step.index, step.timestep, shown)
        if isinstance(answer, dict):
            step.latents = answer.get("latents", step.latents)
        return answer is not False

    def decode(self, decoder: Graph, latents: Array) -> Any:
        """Latents to a picture of the kind asked for."""
        if self.settings.output_type == "latent":
            return latents
        self.tell("decode", 0, 1)
        with self.timings.measure("decode"):
            sample = latents / np.float32(self.pipe.bundle.scaling_factor)
            decoded = _only(decoder({"latent_sample": sample}))
            pixels = np.clip(decoded[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1)
        self.tell("decode", 1, 1)
        if not np.isfinite(pixels).all():
            raise EngineError(
                "the model gave values that are no numbers, which would be a black picture; "
                "compute in full precision (inference_precision f32), or use another scheduler"
            )
        if self.settings.output_type == "np":
            return pixels
        return Image.fromarray((pixels * 255).round().astype(np.uint8))


def _only(outputs: dict[str, Array]) -> Array:
    return next(iter(outputs.values()))
