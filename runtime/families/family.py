"""What a kind of model has to say for itself; everything else in the house asks here."""

import copy
import dataclasses
import functools
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import schedulers
from ..adapters.inversion import Embedding, Words
from ..denoise.guidance import Guidance, classifier_free
from ..denoise.inpainting import BlendedInpainting
from ..denoise.posterior import Posterior
from ..denoise.start import Blank, FromPicture, Origin
from ..engines.protocol import Graph, Shapes
from ..errors import BundleError, shown
from ..images.original import Canvas, Original
from ..images.preview import LatentColours
from ..model import catalog, configs, inputs, latent_space
from ..model.bundle import Bundle
from ..model.catalog import Recommended
from ..model.controlnet import ControlNet
from ..model.footprint import Working, level_width
from ..model.latent_space import LatentSpace, side
from ..options.groups import Picture
from ..schedulers import Scheduler
from ..text.encoder import Encoder
from ..text.t5 import T5Tokenizer
from ..text.tokenizer import ClipTokenizer
from .distillation import Distillation
from .settings import Settings

_log = logging.getLogger("pleinair")

Array: TypeAlias = NDArray[np.float32]
Compiled: TypeAlias = Callable[[str, Shapes], Graph]
"""Gives a part's graph for the shapes of its inputs."""
AnyTokenizer = TypeVar("AnyTokenizer", ClipTokenizer, T5Tokenizer)
Encode: TypeAlias = Callable[[Array], Posterior]
"""Puts pixels through the VAE's encoder."""


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """A family without options of its own."""


class Family(ABC):
    """A kind of model, opened from a folder.

    name: as people call it.
    class_names: diffusers' pipelines that are of this kind.
    denoiser: the part that denoises; sample, timestep: what its inputs of those are called.
    options: a dataclass of the family's own options: see `options.option`.
    config_shape: what the denoiser's config.json may say, as a msgspec.Struct.
    cells: the side of the latents that it was trained on, where its config.json does not say it.
    latents: fields of a VAE's config beside its scaling_factor that its latents depend on, as
        diffusers' pipelines of the kind read them.
    task: what it does, as a message says it; "text" paints from text alone.
    adaptable: whether LoRA files can change it.
    layers_left: layers of CLIP that no clip_skip can leave out: 2 where the last is never read.
    cuts: places that its denoiser can be cut at for cached features; None where a folder does not
        say, 0 for what has none.
    """

    name: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]
    denoiser: ClassVar[str] = "unet"
    sample: ClassVar[str] = "sample"
    timestep: ClassVar[str] = "timestep"
    options: ClassVar[type] = NoOptions
    config_shape: ClassVar[type] = configs.UNetConfig
    cells: ClassVar[int] = 64
    latents: ClassVar[tuple[str, ...]] = ()
    task: ClassVar[str] = "text"
    adaptable: ClassVar[bool] = True
    layers_left: ClassVar[int] = 1

    colours: ClassVar[Mapping[float, LatentColours]] = {}
    """What latents look like, by the scale of the VAE, where it was fitted to what that paints."""
    cuts: int | None = 0
    zero_negative: bool = False
    """Whether no negative prompt is told as zeros instead of the empty text."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError where parts are missing or do not fit each other."""
        self.bundle = bundle
        self.bundle = bundle.requiring((*self.text_encoders, self.denoiser, "vae_decoder"))
        self.config = self.read_config(self.denoiser, self.config_shape)
        self.vae_config = bundle.config("vae_decoder")
        tiny = {"scaling_factor": 1.0, **bundle.config("vae_decoder_tiny")}
        self.decoder_spaces = {
            "vae_decoder": self._space(self.vae_config, "vae_decoder"),
            "vae_decoder_tiny": self._space(tiny, "vae_decoder_tiny"),
        }
        encoder = {**self.vae_config, **bundle.config("vae_encoder")}
        self.space = self._space(encoder, "vae_encoder").coloured(self.colours)
        self._tell_of_ignored()
        self.check()
        self._tell_of_oddities()

    def read_config(self, part: str, shape: type[Any]) -> Any:
        """A part's config.json as a msgspec.Struct; BundleError names what of it is wrong."""
        return configs.read(self.bundle.config(part), shape, self.bundle.path / part)

    def check_inputs(self) -> None:
        """Raise BundleError where a graph of the denoiser takes other inputs than it is given."""
        names = self.bundle.input_names.get(self.denoiser, {})
        given = self.denoiser_inputs(1, self.size, self.size)
        for graphs in self.bundle.graphs.values():
            if self.denoiser in graphs:
                inputs.check(
                    graphs[self.denoiser],
                    {names.get(name, name): shape for name, shape in given.items()},
                    timestep=names.get(self.timestep, self.timestep),
                    sample=names.get(self.sample, self.sample),
                )

    def _tell_of_oddities(self) -> None:
        if odd := schedulers.unknown(self.bundle.scheduler):
            _log.warning(
                "%s: no scheduler has the option %s of scheduler_config.json; it changes nothing",
                self.bundle.name,
                shown(", ".join(odd), 200),
            )
        size = self.config.sample_size
        if isinstance(size, list) and size[0] != size[1]:
            rows, columns = (cells * self.space.factor for cells in size)
            _log.warning(
                "%s: made for pictures of %dx%d; square ones are painted unless width and height "
                "are given",
                self.bundle.name,
                columns,
                rows,
            )

    @classmethod
    def named(cls, index: Mapping[str, Any]) -> bool:
        """Whether a model_index.json is of a pipeline of this kind, by whichever program."""
        name = re.sub("^(OV|ORT|Onnx)", "", str(index.get("_class_name", "")))
        return name in cls.class_names

    @classmethod
    def fits(cls, bundle: Bundle) -> bool:
        """Whether a folder of such a name is of this kind: names are shared by several."""
        return in_channels(bundle, cls.denoiser) in cls.channels(latent_channels(bundle))

    @classmethod
    def channels(cls, latents: int) -> tuple[int, ...]:
        """Channels that a denoiser of this kind may take, for latents of so many."""
        return (latents,)

    tokenizer: ClipTokenizer
    """That of the first text encoder."""

    # The model on disk.

    @property
    @abstractmethod
    def text_encoders(self) -> tuple[str, ...]:
        """The parts that read a prompt, in the order in which they are loaded."""

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """The folder of each text encoder's tokenizer."""
        return tuple(part.replace("text_encoder", "tokenizer") for part in self.text_encoders)

    def tokenizer_of(self, part: str, kind: type[AnyTokenizer]) -> AnyTokenizer:
        """A text encoder's tokenizer; raises BundleError where the two do not fit."""
        bundle = self.bundle
        folder = bundle.tokenizer(part.replace("text_encoder", "tokenizer"))
        return kind.fitting(folder, bundle.config(part), bundle.path / part / "config.json")

    def check(self) -> None:  # noqa: B027 (most have nothing to check)
        """Raise BundleError where the folder's parts do not fit each other."""

    def _space(self, config: Mapping[str, Any], part: str) -> LatentSpace:
        return LatentSpace.of(config, self.latents, self.bundle.path / part / "config.json")

    def _tell_of_ignored(self) -> None:
        """Name what the VAE's config says of its latents and diffusers' pipelines leave unread."""
        if names := latent_space.ignored(self.vae_config, self.latents):
            _log.warning(
                "%s: %s of the VAE's config not used, as in diffusers' pipelines of %s",
                self.bundle.name,
                " and ".join(names),
                self.name,
            )

    @property
    def in_channels(self) -> int:
        """Channels that the denoiser sees: of the latents, and of what stands beside them."""
        return in_channels(self.bundle, self.denoiser)

    @property
    def size(self) -> int:
        """The side of the pictures that the model was trained on, in pixels."""
        return side(self.config.sample_size or self.cells) * self.space.factor

    @functools.cached_property
    def recommended(self) -> Recommended:
        """What the model is painted with where nobody says how.

        As its folder says, else the catalog, else as models of its kind are.
        """
        usual = Recommended(self.size, **self.usual)
        return catalog.recommended(self.bundle, usual)

    def distilled(self, distillation: Distillation) -> "Family":
        """The same model with a LoRA of few steps on it: what it is painted with is another."""
        other = copy.copy(self)
        scheduler = distillation.config(self.bundle.scheduler)
        other.bundle = dataclasses.replace(self.bundle, scheduler=scheduler)
        vars(other)["recommended"] = distillation.recommended(self.recommended)
        return other

    @property
    def usual(self) -> dict[str, Any]:
        """Steps, guidance scale and scheduler of a model that nobody has described."""
        return {"steps": 20, "guidance_scale": 7.5, "scheduler": None}

    @abstractmethod
    def denoiser_inputs(self, rows: int, width: int, height: int) -> Shapes:
        """Shapes of the denoiser's inputs but for the timestep, for pictures of that size."""

    def working(self, part: str, shapes: Shapes) -> Working:
        """What a part's graph holds while it computes, for these shapes of its inputs."""
        if part == "vae_encoder":
            pixels = cells(shapes["sample"])
            return Working("vae", pixels * level_width(self._vae_widths, 0, 128))
        if part.startswith("vae_decoder"):
            pixels = cells(shapes["latent_sample"]) * self.space.factor**2
            tiny = part == self.tiny_decoder
            return Working("vae", pixels * (64 if tiny else level_width(self._vae_widths, 1, 256)))
        return Working()

    @property
    def tiny_decoder(self) -> str:
        """The part that makes pixels of latents fast: beside the VAE, or it where it is tiny."""
        is_tiny = self.vae_config.get("_class_name") == latent_space.TINY
        return "vae_decoder" if is_tiny else "vae_decoder_tiny"

    @property
    def _vae_widths(self) -> Sequence[int] | None:
        return self.vae_config.get("block_out_channels")

    # What is asked of it.

    @property
    def multiple(self) -> int:
        """Width and height are multiples of it, in pixels."""
        return max(8, self.space.factor)

    @property
    def largest(self) -> int | None:
        """The longest side, in pixels, that the denoiser takes at once; None is any."""
        return None

    @property
    def upscales(self) -> int:
        """How many times as large as the picture that it starts from it paints."""
        return 1

    def check_call(self, picture: Picture, options: Any) -> None:  # noqa: B027
        """Raise SettingError where a picture is missing or of no use, or an option out of range."""

    def check_controlnet(self, net: ControlNet) -> None:
        """Raise BundleError where a ControlNet is of no use to this model."""
        raise BundleError(f"{self.bundle.name} is {self.name}, which no ControlNet here is for")

    def guidance(self, scale: float, options: Any) -> Guidance:
        """How branches are combined at a guidance scale; SettingError where it is none."""
        return classifier_free(scale)

    def scheduler(self, settings: Settings) -> Scheduler:
        """A fresh scheduler for one picture, its timesteps set; SchedulerError where it cannot."""
        config = {**self.bundle.scheduler, "eta": settings.eta}  # read by those that have one
        made = schedulers.from_config(config, name=settings.scheduler)
        self.set_timesteps(made, settings)
        return made

    def set_timesteps(self, scheduler: Scheduler, settings: Settings) -> None:
        """Begin a run of the scheduler, with what it has to know of the picture."""
        if settings.timesteps is None:
            scheduler.set_timesteps(settings.steps)
        else:
            scheduler.take_timesteps(settings.timesteps)

    def draws_all_steps(self, scheduler: str | None, picture: Picture) -> bool:
        """Whether from a picture it takes all steps, near the end, instead of the last ones."""
        return False

    def canvas(self, original: Original, width: int, height: int) -> Canvas:
        """The picture to start from, as the model takes it."""
        return original.canvas((width, height), self.space.factor)

    def example_pictures(self, size: int) -> dict[str, Image.Image]:
        """Arguments of a call without which the model paints nothing, for measurements."""
        return {}

    # What is computed.

    @abstractmethod
    def teach(self, embeddings: Sequence[Embedding]) -> Words:
        """Let the tokenizer know the words of textual inversion; AdapterError where it cannot."""

    @abstractmethod
    def read(self, text: str, *, syntax: str, long_prompt: str, options: Any) -> Any:
        """A text as the encoder takes it (see `text.prompt.Text`); raises PromptError."""

    def check_clip_skip(self, clip_skip: int | None) -> None:  # noqa: B027
        """Raise SettingError where the text encoders are known to have too few layers for it."""

    @abstractmethod
    def encoder(self, compiled: Compiled, options: Any) -> Encoder:
        """What encodes prompts, of the graphs of the text encoders."""

    def extra_inputs(self, settings: Settings, branch: str) -> dict[str, Array]:
        """What a branch is told beside its text, the same in all steps, a row each."""
        return {}

    def origin(self, settings: Settings, encode: Encode) -> Origin:
        """What the images of a call begin with; a picture is encoded once for all of them."""
        canvas, steps, strength = settings.canvas, settings.steps, settings.strength
        if canvas is None:
            return Blank(self.space.shape(settings.width, settings.height))
        if canvas.mask is None:
            return FromPicture(encode(canvas.pixels), steps, strength)
        mask = canvas.latent_mask(self.space.factor)
        return BlendedInpainting(encode(canvas.pixels), mask, steps, strength)

    skips_steps: ClassVar[bool] = True
    """Whether a picture to start from takes the last steps alone: strength says how many."""

    @property
    def encodes_pictures(self) -> bool:
        """Whether a picture to start from goes through the VAE's encoder."""
        return True


def grey(side: int) -> Image.Image:
    """A picture of nothing."""
    return Image.new("RGB", (side, side), (128, 128, 128))


def latent_channels(bundle: Bundle) -> int:
    file = bundle.path / "vae_decoder" / "config.json"
    return LatentSpace.of(bundle.config("vae_decoder"), where=file).channels


def in_channels(bundle: Bundle, denoiser: str) -> int:
    """Channels that a folder's denoiser takes; the latents' where it does not say."""
    stated = configs.read(bundle.config(denoiser), configs.Channels, bundle.path / denoiser)
    return int(stated.in_channels or latent_channels(bundle))


def cells(shape: Sequence[int]) -> int:
    """Rows of the batch times cells of each."""
    return int(np.prod((shape[0], *shape[2:])))
