"""What clients send, by the names that AUTOMATIC1111's webui gives its fields.

None is not given: the model's own then holds, where webui has a number for all models. What is not
declared here is not read; `remarks.py` knows which of it would have changed the picture.
"""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator

from pleinair.runtime.images.masks import MOST_BLUR

from . import infotext

Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Count = Annotated[int, Field(ge=1, le=10**6)]
OrNone = Annotated[int, Field(ge=0, le=10**6)]
"""0 is none."""


class Fields(BaseModel):
    """Fields of a request; those that it does not declare are kept aside."""

    model_config = ConfigDict(extra="allow")

    @property
    def others(self) -> dict[str, Any]:
        """What was sent and is not declared."""
        return self.model_extra or {}


class Painting(Fields):
    """What txt2img and img2img have in common."""

    prompt: str | None = None
    negative_prompt: str | None = None
    styles: list[str] | None = None
    seed: Whole | None = None
    subseed: Whole | None = None
    subseed_strength: Number | None = None
    sampler_name: str | None = None
    sampler_index: str | None = Field(None, description="an older name of sampler_name")
    scheduler: str | None = None
    batch_size: Count | None = None
    n_iter: Count | None = None
    steps: Whole | None = None
    cfg_scale: Number | None = None
    width: Count | None = None
    height: Count | None = None
    eta: Number | None = None
    tiling: bool | None = None
    clip_skip: Whole | None = Field(None, description="as SD.Next and stable-diffusion.cpp have it")
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = True
    script_name: str | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool | None = True
    force_task_id: str | None = Field(
        None, max_length=200, description="the id that /internal/progress takes; none makes one"
    )
    infotext: str | None = Field(None, description="settings in webui's text; fields go before")

    @property
    def pictures(self) -> int:
        """How many there are to be."""
        return (self.batch_size or 1) * (self.n_iter or 1)

    @model_validator(mode="before")
    @classmethod
    def _with_infotext(cls, given: Any) -> Any:
        """What the text says, where no field says it."""
        if not isinstance(given, dict) or not isinstance(given.get("infotext"), str):
            return given
        given_fields = {name: value for name, value in given.items() if value is not None}
        return {**infotext.fields_of(given["infotext"]), **given_fields}


class TextToImage(Painting):
    """What txt2img takes."""

    enable_hr: bool | None = False
    hr_scale: Number | None = None
    hr_resize_x: OrNone | None = None
    hr_resize_y: OrNone | None = None
    denoising_strength: Number | None = Field(None, description="of the second pass")
    hr_second_pass_steps: OrNone | None = Field(None, description="0 is as many as the first's")
    hr_cfg: Number | None = Field(None, description="of the second pass, as Forge has it")


class ImageToImage(Painting):
    """What img2img takes."""

    init_images: list[str] = Field(min_length=1)
    resize_mode: Annotated[int, Field(ge=0, le=3)] | None = 0
    denoising_strength: Number | None = 0.75
    image_cfg_scale: Number | None = None
    mask: str | None = None
    mask_blur: Annotated[Number, Field(ge=0, le=MOST_BLUR)] | None = 4
    inpainting_fill: Annotated[int, Field(ge=0, le=3)] | None = 0
    inpaint_full_res: bool | None = True
    inpaint_full_res_padding: Annotated[int, Field(ge=0, le=4096)] | None = 0
    inpainting_mask_invert: bool | None = False
    include_init_images: bool | None = False

    @property
    def pictures(self) -> int:
        """Of several images one each, instead of batch_size of the one."""
        images = len(self.init_images)
        return super().pictures if images == 1 else images * (self.n_iter or 1)


class Task(BaseModel):
    """What internal/progress takes."""

    id_task: str
    id_live_preview: int = Field(-1, description="of the preview that the client has")
    live_preview: bool = True


class Extras(Fields):
    """How a picture is made larger."""

    resize_mode: Literal[0, 1] | None = 0
    show_extras_results: bool | None = True
    upscaling_resize: Annotated[Number, Field(gt=0, le=64)] | None = 2.0
    upscaling_resize_w: Count | None = 512
    upscaling_resize_h: Count | None = 512
    upscaling_crop: bool | None = True
    upscaler_1: str | None = "None"
    upscaler_2: str | None = "None"
    extras_upscaler_2_visibility: Annotated[Number, Field(ge=0, le=1)] | None = 0.0


class OnePicture(Extras):
    """What extra-single-image takes."""

    image: str


class NamedPicture(BaseModel):
    """One of several pictures."""

    data: str
    name: str = ""


class ManyPictures(Extras):
    """What extra-batch-images takes."""

    pictures: list[NamedPicture] = Field(alias="imageList", min_length=1)


class PictureToRead(BaseModel):
    """What png-info takes."""

    image: str


class Unit(BaseModel):
    """A ControlNet and the picture that it follows, as sd-webui-controlnet has them."""

    enabled: bool | None = True
    image: str | None = Field(None, validation_alias=AliasChoices("image", "input_image"))
    module: str | None = "none"
    model: str | None = "None"
    weight: Number | None = 1.0
    resize_mode: int | str | None = 1
    threshold_a: Number | None = None
    threshold_b: Number | None = None
    guidance_start: Number | None = 0.0
    guidance_end: Number | None = 1.0
    control_mode: int | str | None = 0

    @field_validator("image", mode="before")
    @classmethod
    def _picture_alone(cls, value: Any) -> Any:
        """Some clients send the picture with a mask of it."""
        return value.get("image") if isinstance(value, dict) else value


class ToDetect(BaseModel):
    """What controlnet/detect takes."""

    module: str = Field("none", alias="controlnet_module")
    pictures: list[str] = Field(
        min_length=1,
        validation_alias=AliasChoices("controlnet_input_images", "controlnet_images"),
    )
    threshold_a: Number | None = Field(None, alias="controlnet_threshold_a")
    threshold_b: Number | None = Field(None, alias="controlnet_threshold_b")
