"""Text, or text and a picture, to latents to picture."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from . import schedulers
from .adapters import inversion, lora
from .adapters.inversion import Embedding
from .adapters.lora import Lora
from .adapters.model import changes as adapted
from .denoise.control import Controls, Numbers, Steering
from .denoise.feature_cache import Caching
from .denoise.guidance_interval import GuidanceInterval
from .denoise.noise import TorchNoise
from .denoise.span import Span
from .engines.choice import choose
from .engines.protocol import Engine, Graph, Renamed, Shapes
from .engines.shelf import Shelf
from .errors import SettingError
from .families.sizes import Pair, Sizes
from .graphs.cut import Cut
from .graphs.edit import Edit
from .graphs.residuals import Residuals
from .graphs.shared_rows import SharedRows
from .graphs.weights import ChangedWeights
from .images.enlarging import Enlargement
from .images.original import Canvas, Original
from .images.pixels import as_picture, from_decoder
from .images.preview import LatentColours
from .images.reading import PictureSource
from .model import catalog
from .model.bundle import TEXT, UPSCALING, Bundle
from .model.controlnet import ControlNet, Named, opened
from .model.footprint import bytes_of, footprint, weights
from .model.safety import tell_of_unused
from .output import PipelineOutput
from .request import Settings, consecutive, repeated, seeds_of
from .run import Job, Run, StageCallback, StepCallback
from .schedulers.lcm import LCM
from .speed.profiles import Profile
from .speed.tuning import Tuning
from .text.tokenizer import ClipTokenizer
from .text.xl import repadding

__all__ = ["PipelineOutput", "StableDiffusionPipeline"]

log = logging.getLogger("pleinair")

Array = NDArray[np.float32]


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
        controlnets: Sequence[ControlNet] = (),
        profile: str = "exact",
        max_memory: str | int | None = None,
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.profile = Profile.of(profile)
        self.loras, self.embeddings = tuple(loras), tuple(embeddings)
        tell_of_unused(bundle)
        self.defaults = catalog.defaults(bundle)
        self.tokenizer = ClipTokenizer(bundle.tokenizer)
        second = bundle.xl.tokenizer_2 if bundle.xl else None
        self.second_padding = repadding(self.tokenizer, ClipTokenizer(second)) if second else None
        words = self.tokenizer.learn(embeddings)
        for net in controlnets:
            net.check_fits(bundle)
            net.graph(engine.format)
        # By the names of the folders in which diffusers saves several.
        self.controlnets = {
            f"controlnet_{i}" if i else "controlnet": net for i, net in enumerate(controlnets)
        }
        self._changes = adapted(bundle.graphs[engine.format], loras, words)
        self.profile.check(bundle, engine.format, loras="unet" in self._changes)
        self._shelf = Shelf(bytes_of(max_memory))
        for part in ("unet", "vae_decoder") if max_memory is not None else ():
            path = bundle.graph(self.profile.part(part), engine.format)
            self._shelf.check(part, weights(path))  # at any size
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
        max_memory: str | int | None = None,
        cache_dir: str | Path | None = "auto",
        inference_precision: str | None = "f32",
        tokenizer: str | Path | None = None,
        loras: Sequence[lora.Named] = (),
        embeddings: Sequence[inversion.Named] = (),
        controlnet: Named | Sequence[Named] | None = None,
    ) -> "StableDiffusionPipeline":
        """Open a converted model: a folder, a catalog name, or a hub id that is on this machine.

        engine: "auto", "openvino" or "onnxruntime".
        device: "auto", "cpu", "cuda", "gpu", or any name the engine knows.
        profile: what is given up for speed, where a call does not say otherwise (see `profiles`):
            "exact" nothing; "balanced" takes the graphs in 8 bits that pleinair-quantize makes;
            "fast" also keeps deep features from step to step; "auto" is what
            `pleinair tune` recommends, else exact, as it is with LoRA files.
        threads: CPU threads; None leaves it to the engine. On the CPU engine "auto", and then
            these too, follow `pleinair tune` where it has measured the model on this machine.
        max_memory: "2GB", or bytes that the process may take: parts of the model are then loaded
            when they work, and dropped where others need their room. It changes no picture. None
            keeps all of them.
        cache_dir: where compiled models are kept for the next start, without their weights (a few
            megabytes each, by OpenVINO on CPUs); "auto" is the user's cache folder, or the
            environment's PLEINAIR_CACHE; None keeps none.
        inference_precision: OpenVINO's precision hint; "f32" is exact.
        tokenizer: a folder with the tokenizer's files, for models that come without.
        loras: LoRA, LoHa or LoKr files; each a path, (path, weight) or "path:0.8".
        embeddings: textual inversion; each a path, (path, word) or "path:word".
        controlnet: folder of a converted ControlNet, or several; each a path, (path, weight) or
            "path:0.8".
        Raises BundleError, EngineError, SettingError or AdapterError.
        """
        Tuning().named(profile)  # before anything is read
        bundle = Bundle.open(catalog.find(model), tokenizer)
        tuning = Tuning.of(bundle)
        profile = tuning.named(profile, loras=bool(loras))
        tuned = tuning.setups.get(profile)
        return cls(
            bundle,
            choose(bundle, engine, device, threads, cache_dir, inference_precision, tuned),
            [lora.opened(named) for named in loras],
            [inversion.opened(named) for named in embeddings],
            opened(controlnet),
            profile,
            max_memory,
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
        control_image: PictureSource | Sequence[PictureSource] | None = None,
        controlnet_conditioning_scale: Numbers | None = None,
        control_guidance_start: Numbers | None = None,
        control_guidance_end: Numbers | None = None,
        guess_mode: bool = False,
        noise_level: int | None = None,
        width: int | None = None,
        height: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_start: float | None = None,
        guidance_stop: float | None = None,
        guidance_similarity: float | None = None,
        cache_interval: int | None = None,
        cache_branch: int | None = None,
        cache_schedule: str | None = None,
        cache_order: int | None = None,
        cache_guidance: str | None = None,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        seed: int | None = None,
        variation_seed: int | None = None,
        variation_strength: float = 0.0,
        noise_seed: int | None = None,
        latents: Array | None = None,
        denoising_start: float | None = None,
        denoising_end: float | None = None,
        scheduler: str | None = None,
        vae: str = "full",
        safety: str | None = None,
        clip_skip: int | None = None,
        original_size: Pair | str | None = None,
        crops_coords_top_left: Pair | str | None = None,
        target_size: Pair | str | None = None,
        negative_original_size: Pair | str | None = None,
        negative_crops_coords_top_left: Pair | str | None = None,
        negative_target_size: Pair | str | None = None,
        aesthetic_score: float | None = None,
        negative_aesthetic_score: float | None = None,
        syntax: str = "webui",
        long_prompt: str = "chunk",
        tile: int | None = None,
        tile_overlap: int | None = None,
        vae_tiling: str = "auto",
        callback_on_step_end: StepCallback | None = None,
        callback_on_stage: StageCallback | None = None,
        output_type: str = "pil",
    ) -> PipelineOutput:
        """Paint.

        prompt: one text, or several, each painted `num_images_per_prompt` times.
        negative_prompt: what to steer away from; acts only where guidance_scale > 1, and not with
            latent consistency models. For Stable Diffusion XL None is other than "".
        image: a picture to start from (image to image), to paint in, or to edit, as the model
            does it; a path, a PIL picture of any mode, or an array: see `images.reading.read`.
        mask_image: white where image is painted anew, black where it stays; a picture as above,
            or "alpha": the transparent parts of image.
        strength: how far image is changed, above 0 to 1: that share of the steps is taken. None
            is 0.8, with a mask 1. Models that edit by instruction have image_guidance_scale
            instead: how close to image, None is 1.5; below 1 there is no guidance.
        noise_level: of an upscaler, which paints image four times as large: the timestep up to
            which image is noised first; None is 20. More is freer, less is closer to it.
        resize: how image comes to another size: "stretch", "crop" or "pad".
        mask_invert, mask_blur: paint what is black instead; radius of a soft edge, in pixels.
        keep_unmasked: what the mask leaves alone comes back bit for bit, at the size of image.
        control_image: what the ControlNet follows, a picture as above, or "canny:FILE" for the
            edges in one; of several ControlNets a list. `resize` says how it comes to the size
            painted.
        controlnet_conditioning_scale: how much the ControlNet adds; None is 1, with image 0.8,
            with mask_image 0.5. This and the next two: one number, or one for each ControlNet.
        control_guidance_start, control_guidance_end: the share of the steps in which it adds
            anything, 0 <= start < end <= 1; None is from 0 to 1.
        guess_mode: the ControlNet steers the prompted half of the guidance alone, lower blocks
            more than upper ones; made for painting without a prompt.
        width, height: pixels, multiples of 8; None is the size of image rounded down, else that
            of control_image, and without both the size the model was trained on.
        num_inference_steps, guidance_scale, scheduler: None is what the catalog recommends for
            the model, else 20 steps, 7.5, its own scheduler. `schedulers.names()` lists names.
        guidance_start, guidance_stop: the share of the steps in which guidance acts,
            0 <= start < stop <= 1; outside, the UNet is asked for the prompt alone, which takes
            half the time. guidance_similarity: once the predictions with and without the prompt
            are as close, a cosine up to 1, it stays off. See `guidance_interval`.
        cache_interval: compute the whole UNet in every so many steps, and in between only what
            stands above its deep features, which are kept; 1 keeps nothing. cache_branch: how far
            up those end, 0 the uppermost. cache_schedule: "uniform"; "uniform_last" with the last
            step besides; or "quadratic": closer around 0.3 of the way. cache_order: 0 freezes the
            features, 1 takes the line through the last two. cache_guidance: "kept" keeps what
            guidance adds as well, so that only the half with the prompt is computed in between;
            "anew" computes both. See `feature_cache`. None, here and for guidance_…: as the
            profile says. Steps of solvers that ask the UNet twice count twice.
        eta: DDIM's noise (Song et al. 2021, eq. 16), 0 to 1; other schedulers ignore it.
        seed: image i is painted from `seed + i`; None draws one.
        variation_strength: 0 to 1, how far the start noise is turned to that of variation_seed
            (drawn if None). Above 0 all images share `seed`; image i varies by
            `variation_seed + i`.
        noise_seed: all images begin with this seed's noise, and draw the rest from their own.
        latents: start noise for every image, (1, channels, height / f, width / f), f the VAE's
            scale factor; None draws it from the seed.
        denoising_end: stop at this share of the way to the picture, above 0 and below 1; with
            output_type "latent" another model takes over as latents=…, denoising_start=….
        vae: "full", or "tiny" for the folder's tiny decoder: fast, and a little softer.
        safety: what becomes of a picture that the model's safety checker finds unsafe: "on"
            withholds it, images has None in its place; "blur" leaves its colours; "off" asks
            nothing. Why is in the output's verdicts, and logged. None is "on" where the model has
            a checker. Latents are not checked.
        clip_skip: take the text encoder's layer this many before the last.
        original_size, crops_coords_top_left, target_size, and the negative ones: Stable Diffusion
            XL's UNet paints as from a picture that was so large, cut there, then so large; each
            (height, width) or (top, left). aesthetic_score, negative_aesthetic_score: what its
            refiner is told. None is diffusers' value: see `sizes.Sizes`.
        syntax: "webui" reads weights `(word:1.3)`, BREAK, `[from:to:0.5]` and `[a|b]` in both
            prompts; "plain" takes every character as text, as diffusers does. Prompts without
            brackets, backslashes and BREAK are the same in both.
        long_prompt: what becomes of a prompt of more than 75 tokens: "chunk" reads all of it in
            chunks, "stop" raises PromptError, "truncate" cuts it, as diffusers does, and warns.
        tile: paint in square tiles of this many pixels a side, all denoised together as one
            picture (see `tiles.Tiles`): what is computed at once, and so the memory it takes, is
            then a tile's, whatever the size. None paints all at once.
        tile_overlap: pixels that neighbours share; None is a quarter of tile.
        vae_tiling: "on" puts pictures through the VAE in tiles, as diffusers' enable_vae_tiling,
            "off" at once; "auto" is on above 1024 x 1024 pixels, where whole they take gigabytes.
            With tile it is done in those, in any case.
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
        controls = Controls.checked(
            list(self.controlnets.values()),
            control_image,
            original,
            scale=controlnet_conditioning_scale,
            start=control_guidance_start,
            end=control_guidance_end,
            guess_mode=guess_mode,
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
            controls=controls,
            noise_level=noise_level,
            tile=tile,
            tile_overlap=tile_overlap,
            vae_tiling=vae_tiling,
            vae=vae,
            safety=safety,
        )
        sizes = Sizes.checked(
            self.bundle,
            original_size=original_size,
            crops_coords_top_left=crops_coords_top_left,
            target_size=target_size,
            negative_original_size=negative_original_size,
            negative_crops_coords_top_left=negative_crops_coords_top_left,
            negative_target_size=negative_target_size,
            aesthetic_score=aesthetic_score,
            negative_aesthetic_score=negative_aesthetic_score,
        )
        span = Span.checked(
            denoising_start, denoising_end, latents is not None, original is not None
        )
        shape = self.bundle.latent_shape(settings.width, settings.height)
        if latents is not None and latents.shape != shape:
            raise SettingError(f"latents are of shape {latents.shape}; this size needs {shape}")
        if noise_seed is not None:
            if latents is not None:
                raise SettingError("latents are the start noise, and noise_seed is too; give one")
            latents = TorchNoise(consecutive(noise_seed, 1, "noise_seed")[0]).normal(shape)
        canvas = self._canvas(original, settings) if original else None
        cut = self.bundle.latent_channels, settings.tiles, self.bundle.vae_scale_factor
        steering = Steering(controls, *cut, resize) if controls else None
        trade = self.profile.over(
            guidance_start=guidance_start,
            guidance_stop=guidance_stop,
            guidance_similarity=guidance_similarity,
            cache_interval=cache_interval,
            cache_branch=cache_branch,
            cache_schedule=cache_schedule,
            cache_order=cache_order,
            cache_guidance=cache_guidance,
        )
        caching, interval = Caching.checked(self.bundle, trade), GuidanceInterval.checked(trade)
        prompts = repeated(prompt, num_images_per_prompt)
        seeds = seeds_of(seed, variation_seed, variation_strength, len(prompts))
        jobs = [Job(text, *numbers) for text, numbers in zip(prompts, seeds, strict=True)]
        tell = callback_on_stage or (lambda *_: None)
        run = Run(
            *(self, settings, sizes, span, original, canvas, steering, latents),
            *(caching, interval if settings.guidance else None, callback_on_step_end, tell),
        )
        return run.paint(jobs, negative_prompt)

    def enlarge(
        self,
        image: PictureSource,
        prompt: str | Sequence[str],
        negative_prompt: str | None = None,
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
            whole prompt for itself: apples into an apple's skin.
        tile: pixels; None is the size that the model was trained on.
        arguments: what else a call takes: seed, num_inference_steps, tile_overlap, callbacks …

        Computed at once is never more than a tile; of the whole there are pixels and latents. A
        picture that one tile holds is what the call paints with the scaled picture as its image.
        With output_type "latent" the latents are those of a canvas, whose right and lower edges
        may reach some pixels further than the picture.
        Raises SettingError, before any work, for bad arguments and for models of other tasks.
        """
        if self.bundle.task != TEXT:
            raise SettingError(
                f"{self.bundle.name} is made for {self.bundle.task}; only a model that paints from "
                "text alone can enlarge any picture"
            )
        large = Enlargement.of(image, scale, max(8, self.bundle.vae_scale_factor))
        width, height = large.canvas.size
        size = {"width": width, "height": height}
        how = {"image": large.canvas, "strength": strength, **size, **arguments}
        how["guidance_scale"] = guidance_scale
        how["tile"] = self.defaults.size if tile is None else tile
        output = self(prompt, negative_prompt, **how)
        if arguments.get("output_type") != "latent":
            painted = output.images
            output.images = [None if one is None else large.cropped(one) for one in painted]
        return output

    def _canvas(self, original: Original, settings: Settings) -> Canvas:
        """The picture as the model takes it: an upscaler in the size of the latents."""
        size, factor = (settings.width, settings.height), self.bundle.vae_scale_factor
        if self.bundle.task != UPSCALING:
            return original.canvas(size, factor)
        small = size[0] // factor, size[1] // factor
        return original.canvas(small, factor, Image.Resampling.BICUBIC)

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
            side = bundle.sample_size  # what is painted in tiles is too large to be decoded whole
            rows, columns = (min(side, length) for length in latents.shape[2:])
            self._colours = LatentColours.of(bundle, (*latents.shape[:2], rows, columns), decode)
        return self._colours.picture(latents, bundle.vae_scale_factor)

    def graph(
        self,
        part: str,
        shapes: Shapes,
        residuals: Shapes | None = None,
        cut: Cut | None = None,
    ) -> Graph:
        """A part of the model, compiled for these shapes and kept until others are asked for.

        residuals: inputs that the UNet takes from ControlNets, which depend on its shapes alone.
        cut: the UNet handing out its deep features, or its part above them, kept beside it.
        Only one size is kept, so that a server that is asked for many holds the weights once. With
        max_memory it is compiled when it is called: see `shelf.Shelf`.
        """
        net, form = self.controlnets.get(part), self.engine.format
        path = net.graph(form) if net else self.bundle.graph(self.profile.part(part), form)
        names = self.bundle.input_names.get(part, {})
        named = {names.get(name, name): shape for name, shape in shapes.items()}
        changes = self._changes.get(part)
        rows = max(shape[0] for shape in named.values())
        same = [name for name, shape in named.items() if shape[0] < rows]
        named = {name: (rows, *shape[1:]) for name, shape in named.items()}
        edits: list[Edit] = [ChangedWeights(changes)] if changes else []
        edits += [Residuals(residuals)] if residuals else []
        edits += [cut] if cut else []
        edits += [SharedRows((*same, "timestep", "t"))] if same else []

        def compile() -> Graph:
            return Renamed(self.engine.compile(path, named, edits), names)

        needs = 0
        if self._shelf.most is not None:
            how = part, named, cut, bool(changes)
            needs = footprint(path, self.engine.name, self.bundle, *how)
        place = part, cut is not None and cut.shallow
        return self._shelf.graph(place, (shapes, cut), needs, compile)

    def scheduler(self, settings: Settings) -> schedulers.Scheduler:
        """A fresh scheduler for one picture, its timesteps set."""
        config = {**self.bundle.scheduler, "eta": settings.eta}  # read by those that have one
        scheduler = schedulers.from_config(config, name=settings.scheduler)
        if isinstance(scheduler, LCM):
            scheduler.set_timesteps(settings.steps, settings.lcm_strength)
        else:
            scheduler.set_timesteps(settings.steps)
        return scheduler


def _decoded(decoder: Graph, latents: Array, scaling_factor: float) -> Array:
    """Pixels 0 to 1, (height, width, 3)."""
    (decoded,) = decoder({"latent_sample": latents / np.float32(scaling_factor)}).values()
    return from_decoder(decoded)
