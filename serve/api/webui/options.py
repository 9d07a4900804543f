"""What a client has set by `/options`: it holds for that client's own pictures.

A server has many clients, and webui's options are one person's: that somebody else chooses another
model changes nothing for those who paint already. The options are in memory, of the clients that
came last.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pleinair.runtime.errors import shown

from ...errors import Refusal, Unknown
from ...models import Models
from ...pictures import QUALITY, Format
from ..errors import misfit

_CLIENTS = 1000
_USUAL_VAES = ("automatic", "none", "")
TINY_VAE = "tiny"
"""What the models' tiny decoders are called among the VAEs."""

_FORMATS: Mapping[str, Format] = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}


class Options(BaseModel):
    """Those of webui's options that change something here. None is as not set."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    sd_model_checkpoint: str
    sd_vae: str = "Automatic"
    clip_layers: int = Field(1, ge=1, le=100, alias="CLIP_stop_at_last_layers")
    samples_format: Literal["png", "jpg", "jpeg", "webp"] = "png"
    jpeg_quality: int = Field(QUALITY, ge=1, le=100)
    live_previews_enable: bool = True
    show_progress_every_n_steps: int = Field(5, ge=-1, le=10_000)

    @property
    def model(self) -> str:
        return self.sd_model_checkpoint

    @property
    def vae(self) -> str | None:
        """By the name that a call has for it."""
        return None if self.sd_vae.lower() in _USUAL_VAES else self.sd_vae

    @property
    def format(self) -> Format:
        """Of the pictures that are sent."""
        return _FORMATS[self.samples_format]

    @property
    def previews(self) -> int:
        """Steps from one preview to the next; 0 is none."""
        return max(0, self.show_progress_every_n_steps) if self.live_previews_enable else 0

    def as_webui(self) -> dict[str, Any]:
        """As webui says them."""
        return self.model_dump(by_alias=True)

    def over(self, asked: Mapping[str, Any], models: Models) -> "Options":
        """The same with what is asked for instead; what is unknown is passed over.

        Raises Unknown for a model or VAE that is not here, Refusal for a value that is none.
        """
        given = {name: value for name, value in asked.items() if value is not None}
        if checkpoint := given.pop("sd_model_checkpoint", None):
            given["sd_model_checkpoint"] = models.named(_name(checkpoint))
        try:
            options = Options.model_validate({**self.as_webui(), **given})
        except ValidationError as error:
            param, message = misfit(error.errors())
            raise Refusal(message, param=param) from None
        if options.vae not in (None, TINY_VAE):
            raise Unknown(
                f"there is no VAE {shown(options.vae)!r} here; there are: Automatic, {TINY_VAE}",
                param="sd_vae",
            )
        return options


def _name(checkpoint: object) -> str:
    """A model's name, as webui's clients write it: with a file's ending, with a hash behind it."""
    name = str(checkpoint).rpartition(" [")[0] if str(checkpoint).endswith("]") else str(checkpoint)
    return name.removesuffix(".safetensors")


class Clients:
    """The options of each client."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._options: OrderedDict[str, Options] = OrderedDict()
        self._changing = threading.Lock()

    def of(self, client: str) -> Options:
        """A client's, or where it has set none the usual."""
        with self._changing:
            set_by_it = self._options.get(client)
        return set_by_it or Options.model_validate({"sd_model_checkpoint": self._models.first})

    def set(self, client: str, options: Options) -> None:
        with self._changing:
            self._options[client] = options
            self._options.move_to_end(client)
            while len(self._options) > _CLIENTS:
                self._options.popitem(last=False)
