"""What people call: a model opened once, then pictures from text, or from text and a picture."""

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import families
from .adapters import inversion, lora
from .adapters.fitting import words as words_of
from .adapters.inversion import Embedding
from .adapters.lora import Lora
from .adapters.model import changed_weights
from .denoise.noise import TorchNoise
from .engines.choice import choose
from .engines.protocol import Engine
from .engines.shelf import Shelf
from .errors import Message, SettingError, shown
from .families import distillation
from .families.family import Family
from .images.pixels import as_picture, from_decoder
from .images.preview import LatentColours
from .model.bundle import Bundle
from .model.controlnet import ControlNet, Named, opened
from .model.footprint import bytes_of
from .model.parts import Parts
from .model.safety import tell_of_unused
from .options import migration
from .options.groups import Numbers, PictureSource
from .options.values import conform, typed
from .output import PipelineOutput
from .plan import Plan
from .planning.planner import Planner
from .planning.sizes import checked_size
from .record import made
from .request import Request
from .run import Painter, StageCallback
from .speed.profiles import DEFAULT, Profile
from .speed.tuning import Tuning
from .text.known_words import KnownWords
from .text.tokenizer import ClipTokenizer

__all__ = ["Pipeline", "PipelineOutput", "Plan", "StableDiffusionPipeline"]

Array: TypeAlias = NDArray[np.float32]
StepCallback: TypeAlias = Callable[["StableDiffusionPipeline", int, Any, dict[str, Any]], Any]
Callback: TypeAlias = Callable[..., Any] | None
Arguments = ParamSpec("Arguments")


def _painted(plan: Callable[Arguments, Plan]) -> Callable[Arguments, PipelineOutput]:
    """A method that takes what `plan` takes, and paints."""

    @functools.wraps(plan)
    def paint(*args: Arguments.args, **kwargs: Arguments.kwargs) -> PipelineOutput:
        return plan(*args, **kwargs).paint()

    paint.__name__, paint.__qualname__ = "__call__", "StableDiffusionPipeline.__call__"
    paint.__doc__ = "Paint: what `plan` takes, painted at once; see there for the arguments."
    return paint


class _Cancelled(Exception):  # noqa: N818 (no error)
    """Nobody waits for the picture any more."""


class StableDiffusionPipeline(metaclass=migration.Named):
    """A converted model of any family, painted with in numpy and an inference engine.

    Pictures are painted one after the other: on a CPU a batch of them saves no time and costs its
    multiple in memory, and so the first picture is there early.

    One object serves several threads at once. A call keeps its state to itself; compiled graphs are
    shared, each by as many calls at once as it has `streams`, among which the cores are shared out.
    Callbacks are called in the thread of their call. `close` and `warm_up` may be called meanwhile.
    """

    def __init__(
        self,
        family: Family,
        engine: Engine,
        loras: Sequence[Lora] = (),
        embeddings: Sequence[Embedding] = (),
        controlnets: Sequence[ControlNet] = (),
        profile: str = DEFAULT,
        max_memory: str | int | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.loras, self.embeddings = tuple(loras), tuple(embeddings)
        few_steps = distillation.among(self.loras, family.bundle.scheduler)
        self.family = family.distilled(few_steps) if few_steps else family
        self.engine = engine
        self.profile = Profile.of(profile).on(engine)
        self.controlnets = tuple(controlnets)
        words = [item.word for item in self.embeddings]
        self.known_words = KnownWords.of(self.bundle.path, words)
        tell_of_unused(self.bundle)
        self._shares = shelf is not None
        if shelf is not None and max_memory is not None:
            raise SettingError(
                Message(
                    "{max_memory} and {shelf} are both given; a shelf has a limit of its own: "
                    "Shelf(bytes)"
                )
            )
        self.parts = self._parts(shelf or Shelf(bytes_of(max_memory)))
        self.parts.check_memory(family.denoiser, "vae_decoder")
        self._colours: LatentColours | None = family.space.colours

    if not TYPE_CHECKING:  # else no attribute would be unknown
        __getattr__, __setattr__ = migration.missing, migration.assigned

    @classmethod
    @typed
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        engine: str = "auto",
        device: str = "auto",
        profile: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        streams: int = 1,
        max_memory: str | int | None = None,
        cache_dir: str | Path | None = "auto",
        tokenizer: str | Path | None = None,
        loras: Sequence[lora.Named] = (),
        embeddings: Sequence[inversion.Named] = (),
        controlnet: Named | Sequence[Named] | None = None,
        shelf: Shelf | None = None,
        **others: Any,
    ) -> "StableDiffusionPipeline":
        """Open a converted model: a folder, a catalog name, or a hub id that is on this machine.

        engine: "auto", "openvino" or "onnxruntime".
        device: "auto", "cpu", "cuda", "gpu", or any name the engine knows.
        profile: what is given up for speed, where a call does not say otherwise (see
            `speed.profiles`): "exact" nothing, it computes in float32; "native" what nobody sees,
            by the processor's own precision; "balanced" takes the graphs in 8 bits that
            pleinair-quantize makes; "fast" also keeps deep features from step to step; "auto" is
            what `pleinair tune` recommends, else native. LoRA files go with all of them. None is
            what the folder recommends, else native.
        precision: "f32", "bf16" or "f16", in which floating point is computed, or "auto", the
            device's own: bfloat16 where a processor has it, float16 on Arm and GPUs, else float32.
            None is the profile's: float32 in exact, auto in the others. Text encoders, the safety
            checker and the embedding of timesteps are float32 in any case.
        threads: CPU threads; None leaves it to the engine, and in a container takes as many as its
            share of the CPUs is worth. On the CPU engine "auto", and then these too, follow
            `pleinair tune` where it has measured the model on this machine.
        streams: pictures that threads of a program paint at once, for servers: the threads are
            shared out among them, the weights are in memory once. 1 paints one fastest.
        max_memory: "2GB", or bytes that the process may take: parts of the model are then loaded
            when they work, and dropped where others need their room. It changes no picture. None
            keeps all of them.
        cache_dir: where compiled models are kept for the next start, without their weights (a few
            megabytes each, by OpenVINO on CPUs); "auto" is the user's cache folder, or the
            environment's PLEINAIR_CACHE; None keeps none.
        tokenizer: a folder with the tokenizer's files, for models that come without.
        loras: LoRA files of any kind; each a path, (path, weight) or "path:0.8". What of one
            does not fit the model is logged as a warning.
        embeddings: textual inversion; each a path, (path, word) or "path:word".
        controlnet: folder of a converted ControlNet, or several; each a path, (path, weight) or
            "path:0.8".
        shelf: where compiled graphs are kept, with those of other pipelines: what they have in
            common is compiled once, and its limit of memory is for all of them. None is one of its
            own.
        others: arguments of diffusers' that ask for what is so anyway, such as
            use_safetensors=True; any other says in its error what to give instead.
        Raises BundleError, EngineError, SettingError or AdapterError; TypeError for an argument
        that there is not.
        """
        for name in migration.taken(others, {**migration.OPENING, **migration.EARLIER}):
            raise TypeError(f"from_pretrained has no argument {name!r}")
        # Before anything is read.
        Profile.of(Tuning().named(profile or DEFAULT)).computing(precision)
        family = families.open_model(model, tokenizer)
        tuning, stated = Tuning.of(family.bundle), family.recommended.profile
        chosen = tuning.chosen(profile, family.bundle, family.denoiser, stated)
        return cls(
            family,
            choose(
                family.bundle.graphs,
                engine,
                device,
                threads=threads,
                streams=streams,
                cache_dir=cache_dir,
                precision=chosen.computing(precision),
                tuned=tuning.setups.get(chosen.name),
            ),
            [lora.opened(named) for named in loras],
            [inversion.opened(named) for named in embeddings],
            opened(controlnet),
            chosen.name,
            max_memory,
            shelf,
        )

    @property
    def bundle(self) -> Bundle:
        """The model's folder."""
        return self.family.bundle

    @property
    def tokenizer(self) -> ClipTokenizer:
        """That of the first text encoder."""
        return self.family.tokenizer

    def _parts(self, shelf: Shelf) -> Parts:
        """The graphs that this model is painted with; what does not fit it is refused."""
        family, bundle, form = self.family, self.bundle, self.engine.format
        if self.loras and not family.adaptable:
            raise SettingError(f"LoRA files cannot be used with {family.name}: leave them out")
        words = family.teach(words_of(self.loras, self.embeddings))
        adaptable = {
            part: bundle.graph(part, form) for part in (*family.text_encoders, family.denoiser)
        }
        taken = self.profile.files(bundle, form, family.denoiser)
        files = {part: bundle.graph(taken.get(part, part), form) for part in bundle.graphs[form]}
        changed = changed_weights(adaptable, files, self.loras, words)
        for i, net in enumerate(self.controlnets):
            family.check_controlnet(net)
            # By the names of the folders in which diffusers saves several.
            files[f"controlnet_{i}" if i else "controlnet"] = net.graph(form)
        return Parts(
            engine=self.engine,
            files=files,
            input_names=bundle.input_names,
            changed=changed,
            working=family.working,
            cuts=family.cuts,
            exact=(*family.text_encoders, "safety_checker"),
            shelf=shelf,
        )

    def plan(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        image: PictureSource | None = None,
        mask_image: PictureSource | None = None,
        strength: float | None = None,
        control_image: PictureSource | Sequence[PictureSource] | None = None,
        controlnet_conditioning_scale: Numbers | None = None,
        width: int | None = None,
        height: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        scheduler: str | None = None,
        eta: float | None = None,
        seed: int | None = None,
        latents: Array | None = None,
        num_images_per_prompt: int = 1,
        clip_skip: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        callback_on_stage: StageCallback | None = None,
        **options: Any,
    ) -> Plan:
        """Check a call without any work; `plan.paint()` paints, `print(plan)` says what.

        Calling the pipeline takes the same arguments and paints at once.

        prompt: one text, or several, each painted `num_images_per_prompt` times.
        negative_prompt: what to steer away from, one text for all prompts, or a list with one for
            each; acts only where guidance_scale > 1, and not with latent consistency models. For
            Stable Diffusion XL None is other than "".
        image: a picture to start from (image to image), to paint in, or to edit, as the model
            does it; a path, a file's bytes, a file open in binary, a PIL picture of any mode, or an
            array (height, width) or (height, width, 1 to 4 channels): uint8, uint16, bool, or
            floats from 0 to 1.
        mask_image: white where image is painted anew, black where it stays; a picture as above,
            or "alpha": the transparent parts of image.
        strength: how far image is changed, above 0 to 1: that share of the steps is taken. None
            is 0.8, with a mask 1.
        control_image: what the ControlNet follows, a picture as above, or "canny:FILE" for the
            edges in one; of several ControlNets a list.
        controlnet_conditioning_scale: how much the ControlNet adds; None is 1, with image 0.8,
            with mask_image 0.5; one number, or one for each ControlNet.
        width, height: pixels, multiples of 8, together at most 80 million; None is the size of
            image rounded down, else that of control_image, and without both the size the model was
            trained on. A picture of more than 1.5 times that many pixels is scaled down to about as
            many, in its shape.
        num_inference_steps, guidance_scale, scheduler: 1 or more, 0 or more, and a name out of
            `schedulers.names()`. None is what the folder or the catalog recommends for the model,
            else 20 steps, 7.5, its own scheduler.
        eta: DDIM's noise (Song et al. 2021, eq. 16), or TCD's gamma, 0 to 1; other schedulers
            ignore it. None is what is recommended for the model, else 0, as in diffusers.
        seed: image i is painted from `seed + i`; None and -1 draw one.
        latents: start noise for every image, finite numbers, taken as float32, of shape
            (1, channels, height / f, width / f), f the VAE's scale factor; None draws it from the
            seed.
        clip_skip: take the text encoder's layer this many before the last.
        output_type: "pil", "np" or "latent": see PipelineOutput.
        callback_on_step_end: called as in diffusers, (pipe, step, timestep, {"latents",
            "pred_original_sample", "image"}): what is in work, the same as it would be without
            its noise, fit for `preview`, and the image's number. The two are float32 of the
            latents' shape. It may return a dict with new "latents" of that shape, or False to end
            the run: then `out.stopped` is True.
        callback_on_stage: called with (stage, done, total) as "load", "encode" (the prompts),
            "picture" (the one to start from, by the VAE), "denoise", "decode" and, of a second
            pass, "enlarge" begin and advance.
        options: everything else that a call can be asked: docs/api.md lists every option.
        Raises SettingError, SchedulerError or PromptError for bad arguments, BundleError where the
        folder lacks a part, and TypeError for an argument that there is not. Painting may raise
        EngineError as well.
        """
        asked = {
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "image": image,
            "mask_image": mask_image,
            "strength": strength,
            "control_image": control_image,
            "controlnet_conditioning_scale": controlnet_conditioning_scale,
            "width": width,
            "height": height,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "scheduler": scheduler,
            "eta": eta,
            "seed": seed,
            "latents": latents,
            "num_images_per_prompt": num_images_per_prompt,
            "clip_skip": clip_skip,
            "output_type": output_type,
        }
        request = Request.of(self.family, self.profile.reuse, {**asked, **options})
        conform("callback_on_step_end", callback_on_step_end, Callback)
        conform("callback_on_stage", callback_on_stage, Callback)
        on_step = callback_on_step_end and functools.partial(callback_on_step_end, self)
        painter = Painter(self.family, self.parts, on_step, callback_on_stage or (lambda *_: None))
        planner = Planner(
            family=self.family,
            controlnets=self.controlnets,
            format=self.engine.format,
            known_words=self.known_words,
            carry_out=functools.partial(self._carry_out, painter),
        )
        return planner.plan(request)

    __call__ = _painted(plan)

    def _carry_out(self, painter: Painter, plan: Plan) -> PipelineOutput:
        output = painter.paint(plan)
        made.label(output.images, self, plan)
        return output

    async def paint_async(self, *args: Any, **arguments: Any) -> PipelineOutput:
        """Paint as a call does, in another thread; the event loop goes on meanwhile.

        Cancelled, as by `task.cancel()` or `asyncio.wait_for`, it stops within one evaluation of
        the denoiser, lets go of what it held, and only then raises CancelledError.

        args, arguments: as of a call; its callbacks are called in that thread.
        """
        import asyncio  # 30 ms that only those pay who have it already

        cancelled, heard = threading.Event(), arguments.pop("callback_on_stage", None)
        conform("callback_on_stage", heard, Callback)

        def on_stage(stage: str, done: int, total: int) -> None:
            if cancelled.is_set():
                raise _Cancelled
            if heard:
                heard(stage, done, total)

        def paint() -> PipelineOutput:
            try:
                return self(*args, **arguments, callback_on_stage=on_stage)
            except _Cancelled:
                return PipelineOutput(stopped=True)  # nobody sees it

        painting = asyncio.ensure_future(asyncio.to_thread(paint))
        try:
            return await asyncio.shield(painting)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait([painting])
            raise

    @typed
    def warm_up(
        self, sizes: Sequence[tuple[int, int]] | None = None, prompt: str = "", **arguments: Any
    ) -> None:
        """Compile and run once what later calls take, so that their first picture is not slow.

        sizes: of pictures, (width, height); None is the size that a call paints at by itself. Of
            several the last stays compiled in memory: the others are loaded from cache_dir, where
            there is one, when they are called for.
        prompt: as long as the longest that will come; over 75 tokens the denoiser has other shapes.
        arguments: of the calls that will come, as far as they change what is computed: image,
            tile, cache_interval, enlarge, guidance_scale …
        Raises what a call does.
        """
        example = self.family.example_pictures(self.family.recommended.size)
        for width, height in [(None, None)] if sizes is None else sizes:
            asked = {**example, "width": width, "height": height, **arguments}
            Painter(self.family, self.parts).warm_up(self.plan(prompt, **asked))

    def to(self, *places: object) -> "StableDiffusionPipeline":
        """The pipeline itself, where it is on that device already, as in diffusers `to("cpu")`.

        Raises SettingError for other devices and for number formats: `from_pretrained` takes them.
        """
        here = {self.engine.device.lower(), "torch.float32"}
        if others := [place for place in places if str(place).lower() not in here]:
            raise SettingError(
                Message(
                    "the model is on {0} and cannot go to {1}; open it there, with {device}",
                    self.engine.device,
                    shown(others[0]),
                )
            )
        return self

    def close(self) -> None:
        """Let go of the compiled graphs and their memory; a later call compiles them anew.

        Those on a shelf that was given stay, as others may paint with them: see `Shelf.clear`.
        `with StableDiffusionPipeline.from_pretrained(…) as pipe:` does it at the end.
        """
        if not self._shares:
            self.parts.shelf.clear()

    def __enter__(self) -> "StableDiffusionPipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @typed
    def enlarge(
        self,
        image: PictureSource,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        scale: float = 2.0,
        strength: float = 0.3,
        guidance_scale: float = 1.0,
        tile: int | None = None,
        **arguments: Any,
    ) -> PipelineOutput:
        """Make a picture larger: scale it up, then paint the detail by image to image in tiles.

        image: a picture as in a call. It comes out `scale` times as wide and high, rounded.
        prompt, negative_prompt: of the picture, and so of every tile.
        scale: 1 or more; 1 paints new detail into the picture as it is.
        strength: how far the enlarged picture is changed, above 0 to 1: at 0.3 it gets detail, at
            0.5 and more it becomes another one.
        guidance_scale: 1 is none, which takes half the time. More makes every tile paint the
            prompt for itself: apples into an apple's skin.
        tile: pixels; None is the size that the model was trained on.
        arguments: what else a call takes: seed, num_inference_steps, tile_overlap, callbacks …

        Computed at once is never more than a tile; of the picture there are pixels and latents. A
        picture that one tile holds is what the call paints with the scaled picture as its image.
        With output_type "latent" the latents are those of a canvas, whose right and lower edges
        may reach some pixels further than the picture.
        Raises SettingError, before any work, for bad arguments and for models of other tasks.
        """
        asked = {
            "image": image,
            "enlarge": scale,
            "enlarge_strength": strength,
            "enlarge_guidance_scale": guidance_scale,
            "tile": tile,
            **arguments,
        }
        return self.plan(prompt, negative_prompt, **asked).paint()

    @typed
    def start_noise(self, seed: int, width: int | None = None, height: int | None = None) -> Array:
        """The noise that a picture of this seed and size begins with, for `latents`: float32.

        None is the model's size. Raises SettingError for a size or seed that there is not.
        """
        size, multiple = self.family.recommended.size, self.family.multiple
        width, height = (size if side is None else side for side in (width, height))
        width, height = checked_size(width, height, multiple)
        return TorchNoise(seed).normal(self.family.space.shape(width, height))

    @typed
    def preview(self, latents: Array) -> Image.Image:
        """A picture of latents, (1, channels, rows, columns), in a moment; at full size.

        Best of a callback's "pred_original_sample". By the folder's tiny decoder where it has one,
        else by a linear map from latents to colours. Mode RGB. Raises SettingError for arrays of
        another shape.
        """
        latents, space = np.nan_to_num(latents), self.family.space
        if latents.ndim != 4 or latents.shape[:2] != (1, space.channels) or not latents.size:
            raise SettingError(
                f"latents are of shape {latents.shape}; give (1, {space.channels}, rows, columns)"
            )
        if self.family.tiny_decoder in self.parts.files:
            return as_picture(self._decoded(self.family.tiny_decoder, latents))
        if self._colours is None:
            side = self.family.size // space.factor  # larger ones are not to be decoded at once
            rows, columns = (min(side, length) for length in latents.shape[2:])
            shape = (*latents.shape[:2], rows, columns)
            decode = functools.partial(self._decoded, "vae_decoder")
            self._colours = LatentColours.fitted(shape, decode)
        return self._colours.picture(latents, space.factor)

    def _decoded(self, part: str, latents: Array) -> Array:
        """Pixels 0 to 1, (height, width, 3)."""
        decoder = self.parts.graph(part, {"latent_sample": latents.shape})
        sample = self.family.decoder_spaces[part].to_decoder(latents)
        (decoded,) = decoder({"latent_sample": sample}).values()
        return from_decoder(decoded)


Pipeline = StableDiffusionPipeline
"""The same: it opens a folder of any family."""
