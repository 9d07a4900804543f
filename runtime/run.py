"""A plan carried out: text to conditioning, noise to latents, latents to pictures."""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .denoise.conditioning import Schedule
from .denoise.control import Steering
from .denoise.denoiser import Denoiser, Network
from .denoise.feature_cache import Evaluation, FeatureCache, PredictionCache, Uncached
from .denoise.guidance import Guidance
from .denoise.noise import TorchNoise
from .denoise.posterior import Posterior
from .denoise.span import Continued
from .denoise.start import Draws, Origin
from .engines.ahead import Ahead
from .engines.protocol import Graph, Shapes
from .engines.shelf import Together
from .errors import EngineError, Message, SettingError
from .families.family import Family
from .families.prompts import conditioned
from .graphs.edit import Edit
from .graphs.shared_rows import SharedRows
from .graphs.upsampling import TransposedUpsamplers
from .images.pixels import as_picture, from_decoder
from .model.autoencoder import Coder
from .model.parts import Parts
from .model.safety import SafetyChecker, blurred
from .options.values import conform
from .output import PipelineOutput
from .plan import Plan
from .request import Job

log = logging.getLogger("pleinair")

Array: TypeAlias = NDArray[np.float32]
StepCallback: TypeAlias = Callable[[int, Any, dict[str, Any]], Any]
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


@dataclass
class Run:
    """One plan, carried out with the parts of a model.

    on_step: sees every step and may end the run. on_stage: hears how far each stage is.
    """

    plan: Plan
    family: Family
    parts: Parts
    on_step: StepCallback | None
    on_stage: StageCallback
    output: PipelineOutput = field(default_factory=PipelineOutput)
    together: Together = field(default_factory=Together)
    loaded: set[str] = field(default_factory=set)

    def warm_up(self) -> None:
        """Compile and run once every graph that painting the first image takes."""
        plan, (job, *_) = self.plan, self.plan.jobs
        schedule, origin = self.encode()[plan.texts(job)], self.origin()
        network = self.network(schedule, self.graph)
        decoder, checker = self.decoder(), self.checker()
        for step in self.denoise(network, schedule, origin, job):
            evaluation = Evaluation(step.index, len(plan.timesteps))
            if plan.caching is None or not plan.caching.computes(evaluation):
                break
        if self.decodes:
            pixels = self.pixels(decoder, step.clean)
            if checker:
                checker(as_picture(pixels))

    def paint(self) -> PipelineOutput:
        """The pictures of all jobs, or those that were finished before a callback ended it."""
        output, plan = self.output, self.plan
        with output.timings.measure("total"), Ahead() as ahead:
            self.compile_denoiser(ahead)
            schedules = self.encode()
            if self.parts.limited:  # refuse now what a later image would not fit for
                for schedule in schedules.values():
                    self.network(schedule, self.parts.graph)
            origin = self.origin()
            network = self.network(schedules[plan.texts(plan.jobs[0])], self.graph)
            decoder, checker = self.decoder(), self.checker()
            decoding = self.compile_decoder(ahead, decoder)
            for number, job in enumerate(plan.jobs):
                if number:  # features of its own; of a prompt of more chunks another shape
                    with output.timings.measure("load"):
                        network = self.network(schedules[plan.texts(job)], self.parts.graph)
                latents = None
                for step in self.denoise(network, schedules[plan.texts(job)], origin, job):
                    if decoding and decoding.done():
                        decoding.result()  # raises what the decoder cannot be compiled for
                    if not self.consult(step, number):
                        output.stopped = True
                        return output
                    latents = step.latents
                assert latents is not None  # a schedule has at least one step
                output.add(self.decode(decoder, checker, latents, job), job.seed, job.variation)
        return output

    # Text to conditioning.

    def encode(self) -> dict[tuple[str, str | None], Schedule]:
        """Prompt and negative prompt -> what the denoiser is told of them, step by step."""
        plan, family = self.plan, self.family
        texts = list(dict.fromkeys(plan.texts(job) for job in plan.jobs))
        with self.output.timings.measure("encode"):
            encoder = family.encoder(self.graph, plan.settings.options)
            schedules = {}
            for i, (prompt, negative) in enumerate(texts):
                self.on_stage("encode", i, len(texts))
                zeros = family.zero_negative and negative is None
                schedules[prompt, negative] = conditioned(
                    encoder,
                    plan.prompts[prompt],
                    None if zeros else plan.prompts[negative or ""],
                    guidance=plan.settings.guidance,
                    extra_inputs=functools.partial(family.extra_inputs, plan.settings),
                    clip_skip=plan.request.prompting.clip_skip,
                )
        self.on_stage("encode", len(texts), len(texts))
        return schedules

    # Noise to latents.

    @property
    def encodes_picture(self) -> bool:
        return self.plan.settings.canvas is not None and self.family.encodes_pictures

    def origin(self) -> Origin:
        """What the images begin with; a picture goes through the VAE's encoder here."""
        plan, space = self.plan, self.family.space
        if plan.span.start:
            return Continued(plan.span)
        encoder = Coder.encoder(
            space.factor,
            plan.vae_tiles,
            lambda shape: self.graph("vae_encoder", {"sample": shape}),
        )
        tell = functools.partial(self.on_stage, "picture")

        def encode(pixels: Array) -> Posterior:
            return Posterior.of(encoder(pixels, tell), space)

        with self.output.timings.measure("encode"):
            return self.family.origin(plan.settings, encode)

    def network(self, schedule: Schedule, graph: Callable[..., Graph]) -> Network:
        """The denoiser's graphs, and those of ControlNets, compiled by `graph` for the size."""
        plan, family, steering = self.plan, self.family, self.steering
        conditioning = schedule.each[0]
        branches = schedule.guidance.batches[0]
        graphs = self.denoisers(schedule.guidance, conditioning.shapes, graph)
        cache: FeatureCache | PredictionCache | Uncached
        if plan.caching and plan.caching.keeps_prediction:
            cache = PredictionCache(plan.caching, *graphs)
        elif plan.caching:
            cache = FeatureCache(plan.caching, *graphs)
        else:
            cache = Uncached(*graphs)
        if steering:
            inputs, edits = steering.shapes(conditioning, branches), steering.edits(branches)
            steering.graphs = [graph(net, inputs, edits, self.together) for net in self.controlnets]
        return Network(cache, family.sample, family.timestep)

    def denoisers(
        self,
        guidance: Guidance,
        told: Callable[[Sequence[str]], Shapes],
        graph: Callable[..., Graph],
    ) -> list[Graph]:
        """The denoiser's graph; with kept features also that of its uppermost blocks.

        told: shapes of its inputs beside the latents and the timestep, for a batch of branches.
        """
        caching = self.plan.caching
        if caching is None or caching.keeps_prediction:
            return [self.denoiser(guidance, guidance.batches[0], told, graph, [])]
        parts = (caching.full, guidance.batches[0]), (caching.shallow, guidance.between)
        return [self.denoiser(guidance, asked, told, graph, [cut]) for cut, asked in parts]

    def denoiser(
        self,
        guidance: Guidance,
        branches: Sequence[str],
        told: Callable[[Sequence[str]], Shapes],
        graph: Callable[..., Graph],
        cut: Sequence[Edit],
    ) -> Graph:
        """The denoiser's graph, or a part of it, for a batch of branches."""
        plan, family, steering = self.plan, self.family, self.steering
        shapes: Shapes = {
            family.sample: (len(branches), family.in_channels, *plan.tiles.tile),
            **told(branches),
        }
        before: list[Edit] = [steering.residuals_of(branches)] if steering else []
        after: list[Edit] = [TransposedUpsamplers()]
        if guidance.shares_sample and len(branches) > 1:
            same = self.parts.inputs(family.denoiser, family.sample, family.timestep)
            after.append(SharedRows(same))
        return graph(family.denoiser, shapes, [*before, *cut, *after], self.together)

    # Compiled while other work is done.

    @property
    def compiles_ahead(self) -> bool:
        """Whether graphs are compiled before they are asked for.

        Not where memory is limited, nor on a GPU, which has nothing else to do meanwhile.
        """
        return not self.parts.limited and self.parts.engine.device.upper() == "CPU"

    def compile_denoiser(self, ahead: Ahead) -> None:
        """Begin with the denoiser while the prompt is read, where that is of the usual length."""
        plan = self.plan
        texts = [plan.prompts[text or ""] for text in plan.texts(plan.jobs[0])]
        steered, long = plan.controls is not None, any(text.length > 1 for text in texts)
        if steered or long or not self.compiles_ahead:
            return
        width, height = plan.settings.width, plan.settings.height

        def told(branches: Sequence[str]) -> Shapes:
            usual = self.family.denoiser_inputs(len(branches), width, height)
            return {name: shape for name, shape in usual.items() if name != self.family.sample}

        ahead.begin(lambda: self.denoisers(plan.guidance, told, self.parts.graph))

    def compile_decoder(self, ahead: Ahead, decoder: Coder) -> Future[object] | None:
        """Begin with the decoder while the steps are computed; where it cannot be so, do it now."""
        channels = self.family.space.channels
        if self.decodes and self.compiles_ahead:
            shape = {decoder.input: decoder.first_shape(1, channels)}
            return ahead.begin(lambda: self.parts.graph(self.plan.decoder, shape))
        if self.decodes:
            decoder.prepare(1, channels)
        return None

    @functools.cached_property
    def steering(self) -> Steering | None:
        """What ControlNets add, at the size painted."""
        plan = self.plan
        if plan.controls is None:
            return None
        return Steering(plan.controls, self.family.space, plan.tiles, plan.request.picture.resize)

    @property
    def controlnets(self) -> Sequence[str]:
        """The parts that are ControlNets, as diffusers names the folders of several."""
        return [part for part in self.parts.files if part.startswith("controlnet")]

    def denoise(
        self, network: Network, schedule: Schedule, origin: Origin, job: Job
    ) -> Iterator[Step]:
        """From where the image begins to its latents, a step at a time."""
        plan = self.plan
        scheduler = self.family.scheduler(plan.settings)
        noise = TorchNoise(job.seed)
        start = origin.begin(scheduler, Draws(noise, plan.latents, job.variation))
        denoiser = Denoiser(
            network=network,
            guidance=schedule.guidance,
            tiles=plan.tiles,
            beside=start.beside,
            steering=self.steering,
            tell=self.on_stage,
        )
        latents = start.latents
        timesteps = scheduler.timesteps[start.first : plan.timesteps.stop]
        for i, t in enumerate(timesteps):
            begun = time.perf_counter()
            sample = scheduler.scale_model_input(latents, t)
            evaluation = Evaluation(i, len(timesteps))
            prediction = denoiser(sample, t, evaluation, schedule.at(i))
            clean = scheduler.pred_original_sample(prediction, t, latents)
            drawn = noise.normal(latents.shape) if scheduler.needs_noise(t) else None
            latents = scheduler.step(prediction, t, latents, drawn)
            if start.kept:
                after = timesteps[i + 1] if i + 1 < len(timesteps) else None
                latents = start.kept.around(latents, scheduler, after)
                clean = start.kept.around(clean, scheduler, None)
            self.output.timings.steps.append(time.perf_counter() - begun)
            step = Step(i, t, latents, clean)
            yield step
            latents = step.latents
        calls = len(timesteps) * len(plan.tiles.windows)
        self.on_stage("denoise", calls, calls)

    def consult(self, step: Step, image: int) -> bool:
        """Show a step to the caller; False where it ends the run."""
        if self.on_step is None:
            return True
        shown = {
            "latents": step.latents,
            "pred_original_sample": step.clean,
            "image": image,
        }
        answer = self.on_step(step.index, step.timestep, shown)
        if isinstance(answer, dict):
            step.latents = _handed_back(answer.get("latents", step.latents), step.latents.shape)
        elif not isinstance(answer, bool | np.bool_ | None):
            raise SettingError(
                f"callback_on_step_end gave back {type(answer).__name__}; give a dict with new "
                "latents, False to end the run, or nothing"
            )
        return answer is None or bool(answer) or isinstance(answer, dict)

    # Latents to pictures.

    @property
    def decodes(self) -> bool:
        """Whether latents become pixels."""
        return self.plan.request.answer.output_type != "latent"

    def decoder(self) -> Coder:
        """The VAE's, compiled where it is needed."""
        return Coder.decoder(
            self.family.space.factor,
            self.plan.vae_tiles,
            lambda shape: self.graph(self.plan.decoder, {"latent_sample": shape}),
        )

    @property
    def checks(self) -> bool:
        """Whether pictures are shown to the safety checker; latents are not."""
        return self.plan.safety != "off" and self.decodes

    def checker(self) -> SafetyChecker | None:
        return SafetyChecker.of(self.family.bundle, self.graph) if self.checks else None

    def decode(
        self, decoder: Coder, checker: SafetyChecker | None, latents: Array, job: Job
    ) -> Any:
        """Latents to a picture of the kind asked for; None where it is withheld."""
        if not self.decodes:
            return latents
        with self.output.timings.measure("decode"):
            pixels = self.pixels(decoder, latents)
            if not np.isfinite(pixels).all():
                raise EngineError(
                    Message(
                        "the model gave values that are no numbers, which would be a black "
                        "picture; compute in full precision ({profile} exact), or use "
                        "another {scheduler}"
                    )
                )
            shown = self.judged(checker, pixels, job) if checker else pixels
        return None if shown is None else self.finish(shown)

    def pixels(self, decoder: Coder, latents: Array) -> Array:
        """Latents to pixels 0 to 1, (height, width, 3)."""
        space = self.family.decoder_spaces[self.plan.decoder]
        tell = functools.partial(self.on_stage, "decode")
        return from_decoder(decoder(space.to_decoder(latents), tell))

    def judged(self, checker: SafetyChecker, pixels: Array, job: Job) -> Array | None:
        """The pixels, or what is left of them where the safety checker finds them unsafe."""
        verdict = checker(as_picture(pixels))
        self.output.verdicts.append(verdict)
        if not verdict.nsfw:
            return pixels
        blurs = self.plan.safety == "blur"
        log.warning(
            "the picture of seed %d is %s: the safety checker finds it unsafe: %s",
            job.seed,
            "blurred" if blurs else "withheld",
            verdict,
        )
        return blurred(pixels) if blurs else None

    def finish(self, pixels: Array) -> Any:
        """Pixels 0 to 1 as the kind of picture asked for, in the original where it is kept."""
        plan, width, height = self.plan, *self.plan.visible
        as_array = plan.request.answer.output_type == "np"
        if plan.enlargement:
            pixels = pixels[:height, :width]
        kept = plan.original if plan.original and plan.original.keep_unmasked else None
        if as_array and not kept:
            return pixels
        picture = as_picture(pixels)
        if kept:
            picture = kept.around(picture)
        return np.asarray(picture, np.float32) / 255 if as_array else picture

    def graph(
        self,
        part: str,
        shapes: Shapes,
        edits: Sequence[Edit] = (),
        together: Together | None = None,
    ) -> Graph:
        """A part of the model, compiled, and the caller told how many of them are."""
        plan = self.plan
        parts = (
            len(self.family.text_encoders) + 1 + self.encodes_picture + self.decodes + self.checks
        )
        cut = plan.caching is not None and not plan.caching.keeps_prediction
        parts += len(self.controlnets) + cut
        self.on_stage("load", len(self.loaded), parts)
        with self.output.timings.measure("load"):
            graph = self.parts.graph(part, shapes, edits, together)
        shallow = plan.caching is not None and plan.caching.shallow in edits
        self.loaded.add(f"{part}, shallow" if shallow else part)
        self.on_stage("load", len(self.loaded), parts)
        return graph


@dataclass(frozen=True)
class Painter:
    """Carries out plans of an opened model; of two passes each picture goes through both.

    on_step, on_stage: as of a run.
    """

    family: Family
    parts: Parts
    on_step: StepCallback | None = None
    on_stage: StageCallback = lambda *_: None

    def paint(self, plan: Plan) -> PipelineOutput:
        """The pictures of a plan, or those that were finished before a callback ended it."""
        output = self._run(plan).paint()
        if plan.then is None or output.stopped:
            return output
        for i, image in enumerate(output.images):
            if image is not None:  # one that is withheld is not enlarged
                second = plan.then.onto(image, [plan.jobs[i]], self.family)
                output.replace(i, self._run(second).paint())
                if output.stopped:
                    break
        return output

    def warm_up(self, plan: Plan) -> None:
        """Compile and run once what the plan takes, so that painting is quick from the start."""
        if plan.then:  # before the first pass, whose graphs are to stay
            blank = Image.new("RGB", plan.visible)
            self._run(plan.then.onto(blank, plan.jobs[:1], self.family)).warm_up()
        self._run(plan).warm_up()

    def _run(self, plan: Plan) -> Run:
        def enlarging(stage: str, done: int, total: int) -> None:
            self.on_stage("enlarge" if stage == "denoise" else stage, done, total)

        report = enlarging if plan.enlargement else self.on_stage
        return Run(plan, self.family, self.parts, self.on_step, report)


def _handed_back(latents: Any, shape: tuple[int, ...]) -> Array:
    """Latents that a callback puts in place of a step's; SettingError where they cannot be."""
    name = "the latents that callback_on_step_end gave back"
    found: Array = conform(name, latents, Array)
    if found.shape != shape:
        raise SettingError(f"{name} are of shape {found.shape}; give {shape}")
    if not np.isfinite(found).all():
        raise SettingError(f"{name} hold values that are no numbers; give finite ones")
    return found
