"""Enlarging: what its passes ask for, and the picture that one pass enlarges."""

from dataclasses import replace

from PIL import Image

from ..denoise.guidance import checked
from ..errors import Argument, Message, SettingError
from ..families.family import Family
from ..images.enlarging import Enlargement
from ..images.fitting import Fit
from ..images.fitting import Size as Pixels
from ..images.reading import over, read
from ..options.groups import Enlarging, Picture
from ..request import Request

ENLARGING_STRENGTH, ENLARGING_GUIDANCE = 0.3, 1.0


def enlarges(request: Request) -> bool:
    """Whether a call enlarges; SettingError where it only says how, or in no range."""
    asked = request.enlarging
    if asked.enlarge is None and asked != Enlarging():
        given = [name for name, value in vars(asked).items() if value is not None]
        raise SettingError(Message("{0} is about {enlarge}; give that too", Argument(given[0])))
    _check_ranges(asked)
    return asked.enlarge is not None


def _check_ranges(asked: Enlarging) -> None:
    """Those of the second pass by their own names, which is planned under others."""
    strength, scale = asked.enlarge_strength, asked.enlarge_guidance_scale
    steps = asked.enlarge_steps
    if strength is not None and not 0 < strength <= 1:
        raise SettingError(
            Message("{enlarge_strength} is {0:g}; give more than 0, and at most 1", strength)
        )
    if scale is not None:
        checked(scale, "enlarge_guidance_scale")
    if steps is not None and steps < 1:
        raise SettingError(Message("{enlarge_steps} is {0}; give 1 or more", steps))


def check_can_enlarge(family: Family) -> None:
    """Raise SettingError for a model that needs more than text."""
    if family.task != "text":
        raise SettingError(
            f"{family.bundle.name} is made for {family.task}; only a model that "
            "paints from text alone can enlarge any picture"
        )


def is_enlarged_as_it_is(request: Request) -> bool:
    """Whether the picture to start from is itself what is enlarged: nothing says to change it."""
    picture = request.picture
    asked = request.enlarging.enlarge is not None and picture.image is not None
    return asked and picture.strength is None and picture.mask_image is None


def brought_to_size(request: Request) -> Image.Image:
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


def first_pass(request: Request) -> Request:
    """What the pass asks for whose pictures are then enlarged."""
    size = request.size
    return replace(
        request,
        enlarging=Enlarging(),
        answer=replace(request.answer, output_type="pil"),
        # Without tiles of its own, the overlap is that of the second pass's.
        size=size if size.tile else replace(size, tile_overlap=None),
    )


def second_pass(family: Family, request: Request, canvas: Pixels) -> Request:
    """What the pass asks for that enlarges a picture, to a canvas of that size."""
    asked, (width, height) = request.enlarging, canvas
    strength, scale = asked.enlarge_strength, asked.enlarge_guidance_scale
    tile = request.size.tile or family.recommended.size
    sampling = replace(
        request.sampling, guidance_scale=ENLARGING_GUIDANCE if scale is None else scale
    )
    if asked.enlarge_steps is not None:
        sampling = replace(sampling, num_inference_steps=asked.enlarge_steps, timesteps=None)
    return replace(
        request,
        enlarging=Enlarging(),
        picture=Picture(strength=ENLARGING_STRENGTH if strength is None else strength),
        sampling=sampling,
        noise=replace(request.noise, noise_seed=None, latents=None),
        size=replace(request.size, width=width, height=height, tile=tile),
    )
