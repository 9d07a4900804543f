"""What ControlNets add to the UNet [Zhang et al. 2023], for one call: whose, how much, and when."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..engines.protocol import Graph, Shapes
from ..errors import SettingError
from ..images.condition import Condition
from ..images.fitting import Size, paintable
from ..images.original import Original
from ..images.reading import PictureSource
from ..model.controlnet import ControlNet
from ..model.tiles import Tiles

Array: TypeAlias = NDArray[np.float32]
Numbers: TypeAlias = float | Sequence[float]


@dataclass(frozen=True)
class Control:
    """One ControlNet with the picture that it follows, in the steps between two shares of them."""

    net: ControlNet
    condition: Condition
    scale: float
    start: float
    end: float

    def acts(self, step: int, steps: int) -> bool:
        """Whether it adds anything in this step, by diffusers' rule: a step counts as a whole."""
        return self.scale != 0 and step / steps >= self.start and (step + 1) / steps <= self.end

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

    guess: the half of the batch that has no prompt is left alone.
    """

    each: tuple[Control, ...]
    guess: bool

    @classmethod
    def checked(
        cls,
        nets: Sequence[ControlNet],
        control_image: PictureSource | Sequence[PictureSource] | None,
        original: Original | None,
        *,
        scale: Numbers | None,
        start: Numbers | None,
        end: Numbers | None,
        guess_mode: bool,
    ) -> "Controls | None":
        """None without ControlNets; then there may be nothing for them either.

        original: the picture that the call starts from.
        Raises SettingError, naming the argument and what it may be.
        """
        if not nets:
            if control_image is not None or guess_mode or (scale, start, end) != (None,) * 3:
                raise SettingError(
                    "control_image, its scale, start and end, and guess_mode are for ControlNets, "
                    "and none is open; open the model with controlnet"
                )
            return None
        scales = _each("controlnet_conditioning_scale", scale, _scale(original), len(nets))
        starts = _each("control_guidance_start", start, 0.0, len(nets))
        ends = _each("control_guidance_end", end, 1.0, len(nets))
        for number in scales:
            if not (math.isfinite(number) and number >= 0):
                raise SettingError(f"controlnet_conditioning_scale is {number}; give 0 or more")
        for begun, done in zip(starts, ends, strict=True):
            if not 0 <= begun < done <= 1:
                raise SettingError(
                    f"control_guidance_start is {begun:g} and control_guidance_end {done:g}; "
                    "give shares of the steps, 0 <= start < end <= 1"
                )
        conditions = [Condition.read(source) for source in _pictures(control_image, len(nets))]
        return cls(
            tuple(
                Control(net, condition, net.weight * scale, start, end)
                for net, condition, scale, start, end in zip(
                    nets, conditions, scales, starts, ends, strict=True
                )
            ),
            guess_mode or nets[0].pooled,  # as diffusers has it
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

    channels: of the latents, which `tiles` are cut from; cell: pixels that a latent's side spans.
    """

    def __init__(
        self, controls: Controls, channels: int, tiles: Tiles, cell: int, resize: str
    ) -> None:
        self._controls = controls
        self._sample = (channels, *tiles.tile)
        rows, columns = tiles.size
        size = columns * cell, rows * cell
        self._pixels = [
            tiles.cut(control.condition.pixels(size, resize), cell) for control in controls.each
        ]

    def inputs(self, embedding: Sequence[int]) -> Shapes:
        """Of a ControlNet's graph, for embeddings (batch, tokens, width)."""
        batch = 1 if self._controls.guess else embedding[0]
        return {
            "sample": (1, *self._sample),
            "encoder_hidden_states": (batch, *embedding[1:]),
            "controlnet_cond": self._pixels[0][0].shape,
        }

    def ends(self, batch: int) -> Shapes:
        """What the UNet takes of them; nets that fit one UNet all have the same."""
        return self._controls.each[0].net.residuals(batch, *self._sample[1:])

    def residuals(
        self,
        graphs: Sequence[Graph],
        step: tuple[int, int],
        tile: int,
        sample: Array,
        t: Any,
        embedding: Array,
        prompted: bool = True,
    ) -> dict[str, Array]:
        """What the ControlNets add to the UNet in one step, by the UNet's ends.

        step: its number, and of how many. sample: (1, channels, rows, columns) of the tile of this
        number, scaled. prompted: whether the last of the embeddings is that of the prompt.
        """
        ends = self.ends(len(embedding))
        sums = {name: np.zeros(shape, np.float32) for name, shape in ends.items()}
        if self._controls.guess and not prompted:
            return sums
        asked = embedding[-1:] if self._controls.guess else embedding
        for control, graph, pixels in zip(self._controls.each, graphs, self._pixels, strict=True):
            if not control.acts(*step):
                continue
            feeds = {
                "sample": sample,
                "timestep": np.asarray(t),
                "encoder_hidden_states": asked,
                "controlnet_cond": pixels[tile],
            }
            scales = control.scales(len(ends), self._controls.guess)
            for name, scale, found in zip(ends, scales, graph(feeds).values(), strict=True):
                sums[name][-len(asked) :] += scale * found
        return sums


def _scale(original: Original | None) -> float:
    """Where none is given: what diffusers' three pipelines take."""
    if original is None:
        return 1.0
    return 0.5 if original.mask else 0.8


def _each(name: str, value: Numbers | None, default: float, count: int) -> list[float]:
    """One number for each ControlNet, from one for all of them or a sequence."""
    if not isinstance(value, Sequence):
        return [float(default if value is None else value)] * count
    if len(value) != count:
        raise SettingError(f"{name} has {len(value)} numbers for {count} ControlNets; give {count}")
    return [float(number) for number in value]


def _pictures(
    source: PictureSource | Sequence[PictureSource] | None, count: int
) -> Sequence[PictureSource]:
    if source is None:
        raise SettingError("a ControlNet follows a picture; give control_image")
    several = isinstance(source, list | tuple)
    pictures: Sequence[Any] = source if several else [source]  # type: ignore[assignment]
    if len(pictures) != count:
        raise SettingError(
            f"control_image is {len(pictures)} pictures for {count} ControlNets; give one for each"
        )
    return pictures
