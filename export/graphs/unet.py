"""UNets: of what each kind sees beside latents, timestep and text."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .graph import Ends, Graph, Inputs, Wrapper, normal

_BATCH = {0: "batch_size"}
_LATENTS = {0: "batch_size", 2: "height", 3: "width"}

ENDS: Ends = {
    "sample": _LATENTS,
    "timestep": _BATCH,
    "encoder_hidden_states": {0: "batch_size", 1: "sequence_length"},
}
"""The inputs of every UNet, and of a ControlNet."""


class UNet(Wrapper):
    """A UNet that sees latents, timestep and text."""

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor
    ) -> tuple[Tensor]:
        out: tuple[Tensor] = self.model(sample, timestep, encoder_hidden_states, return_dict=False)
        return out


class GuidedUNet(Wrapper):
    """A UNet distilled with its guidance scale as an input (latent consistency models)."""

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor,
    ) -> tuple[Tensor]:
        out: tuple[Tensor] = self.model(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=timestep_cond,
            return_dict=False,
        )
        return out


class XLUNet(Wrapper):
    """Stable Diffusion XL's: it also sees the pooled prompt and the sizes [Podell et al. 2023]."""

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        timestep_cond: Tensor | None = None,
    ) -> tuple[Tensor]:
        out: tuple[Tensor] = self.model(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=timestep_cond,
            added_cond_kwargs={"text_embeds": text_embeds, "time_ids": time_ids},
            return_dict=False,
        )
        return out


class UpscalingUNet(Wrapper):
    """A UNet that is told how noisy the small picture beside the latents is (the x4 upscaler)."""

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        class_labels: Tensor,
    ) -> tuple[Tensor]:
        out: tuple[Tensor] = self.model(
            sample, timestep, encoder_hidden_states, class_labels=class_labels, return_dict=False
        )
        return out


def unet(model: Any) -> Graph:
    """The graph of Stable Diffusion's UNet; with its guidance scale where it takes it."""
    guidance = _guidance(model.config)
    return _graph(model, GuidedUNet if guidance else UNet, guidance)


def xl_unet(model: Any) -> Graph:
    """The graph of Stable Diffusion XL's UNet, or its refiner's.

    Its config says `text_encoder_projection_dim` and `requires_aesthetics_score`, as optimum's do.
    """
    sizes = {
        "text_embeds": model.config.text_encoder_projection_dim,
        "time_ids": time_ids(model.config.requires_aesthetics_score),
    }
    return _graph(model, XLUNet, sizes | _guidance(model.config))


def time_ids(aesthetic: bool) -> int:
    """How many numbers of sizes the UNet sees: the refiner a score for a picture's target size."""
    return 5 if aesthetic else 6


def upscaling_unet(model: Any) -> Graph:
    """The graph of the x4 upscaler's UNet, whose noise levels are classes."""
    return _graph(model, UpscalingUNet, {}, noise_levels=model.config.num_class_embeds)


def cases(
    case: Callable[[int, int, int, int, int], Inputs],
) -> list[Callable[[], Inputs]]:
    """Of a function of batch, height, width, tokens and timestep: the cases to try."""
    return [
        lambda: case(2, 9, 13, 77, 501),
        lambda: case(1, 16, 16, 77, 1),
        lambda: case(3, 12, 8, 154, 999),
    ]


def inputs(config: Any, batch: int, height: int, width: int, tokens: int, timestep: int) -> Inputs:
    """Values for `ENDS`."""
    return {
        "sample": normal(batch, config.in_channels, height, width),
        "timestep": torch.full((batch,), timestep, dtype=torch.int64),
        "encoder_hidden_states": normal(batch, tokens, config.cross_attention_dim),
    }


def _guidance(config: Any) -> dict[str, int]:
    """The embedded guidance scale, where the UNet was distilled with it: name -> width."""
    width = config.time_cond_proj_dim
    return {} if width is None else {"timestep_cond": width}


def _graph(
    model: Any,
    wrapper: Callable[[Any], nn.Module],
    conditions: Mapping[str, int],
    noise_levels: int = 0,
) -> Graph:
    """conditions: what it sees beside the usual three, (batch, width) each: name -> width."""
    labels: Ends = {"class_labels": _BATCH} if noise_levels else {}

    def case(batch: int, height: int, width: int, tokens: int, timestep: int) -> Inputs:
        values = inputs(model.config, batch, height, width, tokens, timestep)
        values |= {name: normal(batch, width) for name, width in conditions.items()}
        if noise_levels:
            level = timestep % noise_levels
            values["class_labels"] = torch.full((batch,), level, dtype=torch.int64)
        return values

    return Graph(
        name="unet",
        module=wrapper(model).eval(),
        inputs=ENDS | dict.fromkeys(conditions, _BATCH) | labels,
        outputs={"out_sample": _LATENTS},
        cases=cases(case),
        scalars=frozenset({"timestep"}),
    )
