"""What ControlNets add to the denoiser [Zhang et al. 2023], for one call: how much, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..engines.protocol import Graph, Shapes
from ..errors import Argument, Message, SettingError
from ..graphs.edit import Edit
from ..graphs.residuals import Residuals
from ..graphs.shared_rows import SharedRows
from ..images.condition import Condition
from ..images.fitting import Size, paintable
from ..model.controlnet import ControlNet
from ..model.latent_space import LatentSpace
from ..model.tiles import Tiles
from ..options.groups import Control, Numbers, PictureSource
from .conditioning import Conditioning
from .feature_cache import Evaluation
from .guidance import checked, is_conditional

Array: TypeAlias = NDArray[np.float32]
Value = TypeVar("Value")


@dataclass(frozen=True)
class ControlledBy:
    """One ControlNet with the picture that it follows, in the steps between two shares of them."""

    net: ControlNet
    condition: Condition
    scale: float
    start: float
    end: float

    def acts(self, evaluation: Evaluation) -> bool:
        """Whether it adds anything in it, by diffusers' rule: an evaluation counts as a whole."""
        index, total = evaluation
        begun, done = index / total, (index + 1) / total
        return self.scale != 0 and begun >= self.start and done <= self.end

    def scales(self, ends: int, guess: bool) -> Array:
        """How much of each residual is added, the middle block's last.

        In guess mode, with no prompt to lean on, the uppermost counts a tenth, each lower one more.
        """
        rising = guess and not self.net.pooled
        shares = np.logspace(-1, 0, ends) if rising else np.ones(ends)
        return (shares * self.scale).astype(np.float32)


@dataclass(frozen=True)
class Controls:
    """What a call asks of the ControlNets at hand.

    guess: the branch without the prompt is left alone.
    """

    each: tuple[ControlledBy, ...]
    guess: bool

    @classmethod
    def of(
        cls, nets: Sequence[ControlNet], asked: Control, usual_scale: float
    ) -> "Controls | None":
        """None without ControlNets; then there may be nothing for them either.

        usual_scale: how much they add where the call does not say.
        Raises SettingError, naming the argument and what it may be.
        """
        if not nets:
            if any(value is not None and value is not False for value in vars(asked).values()):
                raise SettingError(
                    Message(
                        "{control_image}, its scale, start and end, and {guess_mode} are for "
                        "ControlNets, and none is open; open the model with {controlnet}"
                    )
                )
            return None
        scale, start, end = (
            asked.controlnet_conditioning_scale,
            asked.control_guidance_start,
            asked.control_guidance_end,
        )
        scales = _each("controlnet_conditioning_scale", scale, usual_scale, len(nets))
        starts = _each("control_guidance_start", start, 0.0, len(nets))
        ends = _each("control_guidance_end", end, 1.0, len(nets))
        for number in scales:
            checked(number, "controlnet_conditioning_scale")
        for begun, done in zip(starts, ends, strict=True):
            if not 0 <= begun < done <= 1:
                raise SettingError(
                    Message(
                        "{control_guidance_start} is {0:g} and {control_guidance_end} {1:g}; "
                        "give shares of the steps, 0 <= start < end <= 1",
                        begun,
                        done,
                    )
                )
        pictures = _pictures(asked.control_image, len(nets))
        conditions = [Condition.read(source) for source in pictures]
        each = zip(nets, conditions, scales, starts, ends, strict=True)
        return cls(
            tuple(
                ControlledBy(net, condition, scale=net.weight * scale, start=start, end=end)
                for net, condition, scale, start, end in each
            ),
            asked.guess_mode or nets[0].pooled,  # as diffusers has it
        )

    @property
    def picture(self) -> Image.Image:
        """The first ControlNet's."""
        return self.each[0].condition.picture

    def size(self, multiple: int) -> Size:
        """Width and height to paint where nothing else says: the first picture's, rounded down."""
        return paintable(self.picture.size, multiple, "control_image")


class Steering:
    """The controls of a call at the size painted: which shapes graphs are to have, and the sums.

    resize: how a picture comes to that size, one of `fitting.WAYS`.
    """

    def __init__(self, controls: Controls, space: LatentSpace, tiles: Tiles, resize: str) -> None:
        self._controls = controls
        self._sample = (space.channels, *tiles.tile)
        rows, columns = tiles.size
        size = columns * space.factor, rows * space.factor
        self._pixels = [
            tiles.cut(control.condition.pixels(size, resize), space.factor)
            for control in controls.each
        ]
        self.graphs: Sequence[Graph] = ()
        """The ControlNets', in their order; set before the first evaluation."""

    def shapes(self, conditioning: Conditioning, branches: Sequence[str]) -> Shapes:
        """Of the inputs of a ControlNet's graph, for a batch of branches."""
        asked = self._asked(branches) or branches  # of a branch that is not asked: one as well
        picture = self._pixels[0][0].shape
        return {
            "sample": (len(asked), *self._sample),
            **_shared(conditioning.shapes(asked)),
            "controlnet_cond": (len(asked), *picture[1:]),
        }

    def edits(self, branches: Sequence[str]) -> list[Edit]:
        """Of that graph: all branches see the same picture and latents."""
        if len(self._asked(branches)) < 2:
            return []
        return [SharedRows(("sample", "timestep", "controlnet_cond"))]

    def residuals_of(self, branches: Sequence[str]) -> Residuals:
        """What the denoiser's graph takes of them; nets that fit one have all the same."""
        net = self._controls.each[0].net
        return Residuals(net.residuals(len(branches), *self._sample[1:]))

    def residuals(
        self,
        conditioning: Conditioning,
        branches: Sequence[str],
        *,
        evaluation: Evaluation,
        tile: int,
        sample: Array,
        t: Any,
    ) -> dict[str, Array]:
        """What the ControlNets add in one evaluation for a batch of branches, by the inputs' names.

        sample: (1, channels, rows, columns) of the tile of this number, scaled.
        """
        shapes = self.residuals_of(branches).shapes
        sums = {name: np.zeros(tuple(shape), np.float32) for name, shape in shapes.items()}
        asked = self._asked(branches)
        if not asked:
            return sums
        rows = [branches.index(branch) for branch in asked]
        shared = _shared(conditioning.batch(asked))
        each = zip(self._controls.each, self.graphs, self._pixels, strict=True)
        for control, graph, pixels in each:
            if not control.acts(evaluation):
                continue
            feeds = {"sample": sample, "timestep": np.asarray(t), **shared}
            feeds["controlnet_cond"] = pixels[tile]
            scales = control.scales(len(shapes), self._controls.guess)
            for name, scale, found in zip(shapes, scales, graph(feeds).values(), strict=True):
                sums[name][rows] += scale * found
        return sums

    def _asked(self, branches: Sequence[str]) -> list[str]:
        """The branches that the ControlNets are asked for."""
        return [one for one in branches if is_conditional(one) or not self._controls.guess]


def _shared(inputs: Mapping[str, Value]) -> dict[str, Value]:
    """Of what the denoiser is told, by the inputs' names, a ControlNet's: text, and no sizes."""
    return {name: value for name, value in inputs.items() if name in ControlNet.shared_inputs}


def _each(name: str, value: Numbers | None, default: float, count: int) -> list[float]:
    """One number for each ControlNet, from one for all of them or a sequence."""
    if not isinstance(value, Sequence):
        return [float(default if value is None else value)] * count
    if len(value) != count:
        raise SettingError(
            Message(
                "{0} has {1} numbers for {2} ControlNets; give {2}",
                Argument(name),
                len(value),
                count,
            )
        )
    return [float(number) for number in value]


def _pictures(
    source: PictureSource | Sequence[PictureSource] | None, count: int
) -> Sequence[PictureSource]:
    if source is None:
        raise SettingError(Message("a ControlNet follows a picture; give {control_image}"))
    several = isinstance(source, list | tuple)
    pictures: Sequence[Any] = source if several else [source]  # type: ignore[assignment]
    if len(pictures) != count:
        raise SettingError(
            Message(
                "{control_image} is {0} pictures for {1} ControlNets; give one for each",
                len(pictures),
                count,
            )
        )
    return pictures
