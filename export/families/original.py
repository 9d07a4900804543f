"""One file in the original layout of CompVis, and of each kind what no tensor's shape tells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..architecture import Config
from ..reading import State

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP = "cond_stage_model.transformer."
OPEN_CLIP = "cond_stage_model.model."


@dataclass(frozen=True)
class Task:
    """What a checkpoint is trained for, which the channels of its UNet tell.

    pipeline: diffusers' class.
    prediction_type: what it predicts where the file does not say it.
    remark: a line to log where that is a guess; "%s" stands for the file.
    guided: diffusers' class where the UNet was distilled with its guidance scale as an input.
    """

    pipeline: str
    prediction_type: str = "epsilon"
    remark: str = ""
    guided: str | None = None


def no_facts(configs: Mapping[str, Config]) -> Config:
    """Of a UNet whose shapes tell everything."""
    return {}


@dataclass(frozen=True)
class Original:
    """One kind of single file.

    name: for messages.
    fits: whether tensors are of this kind; of all families' kinds just one says so.
    prefixes: sub-model -> how the names of its weights begin.
    tasks: channels that the UNet takes -> task.
    schedulers: prediction type -> folder -> scheduler_config.json.
    size: prediction type -> side, in pixels, of the pictures that it was trained on.
    scaling_factor: latents are what the VAE's encoder gives times this.
    penultimate: it was trained on the last layer but one of its text encoder, see
        `open_clip.config`.
    normed: whether latents may have a mean and a deviation by channel (Playground v2.5).
    few_steps: what a model distilled to a few steps is painted with where its name says no number.
    unet: configs of all networks -> what they tell of the UNet's.
    settings: what its model_index.json says beside its components.
    """

    name: str
    fits: Callable[[State], bool]
    prefixes: Mapping[str, str]
    tasks: Mapping[int, Task]
    schedulers: Callable[[str], dict[str, Config]]
    size: Callable[[str], int] = lambda prediction_type: 512
    scaling_factor: float = 0.18215
    penultimate: bool = False
    normed: bool = False
    few_steps: int | None = None
    unet: Callable[[Mapping[str, Config]], Config] = no_facts
    settings: Mapping[str, Any] = field(default_factory=dict)
