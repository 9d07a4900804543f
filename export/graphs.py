"""What is exported: the graphs of Stable Diffusion, with optimum's names for their ends, and those
that may stand beside them: a safety checker, a tiny decoder, a ControlNet.

Each part is a small module whose `forward` takes and returns plain tensors, the way an engine
will call it. The example inputs are chosen so that tracing takes the general branch: latents of
an odd size make the UNet compute every upsampling size from the skip connection it must match,
so the traced graph works for all sizes, while an even example would freeze "times two".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import xl

Inputs = dict[str, Tensor]
Shape = tuple[int, ...]

SUBMODEL = {
    "text_encoder": "text_encoder",
    "text_encoder_2": "text_encoder_2",
    "unet": "unet",
    "vae_decoder": "vae",
    "vae_encoder": "vae",
    "safety_checker": "safety_checker",
    "vae_decoder_tiny": "tiny_vae",
}


@dataclass(frozen=True)
class Graph:
    """One graph: the module to trace, the names and free dimensions of its ends, and its cases.

    `inputs` maps a name to its free dimensions ({axis: name}); `cases` are the sets of inputs on
    which the exported graph is compared with the module, the first one is what tracing sees.
    """

    name: str
    module: nn.Module
    inputs: dict[str, dict[int, str]]
    outputs: dict[str, dict[int, str]]
    cases: Sequence[Callable[[], Inputs]]

    def example(self) -> Inputs:
        return self.cases[0]()


class TextEncoder(nn.Module):
    """CLIP's text model, with every layer's output beside the last.

    `hidden_states.i` are the raw states, as optimum writes them. `clip_skip.k` is the state k
    layers before the end after the final layer norm, which is what diffusers feeds to the UNet
    for `clip_skip=k`; a runtime without torch cannot get at that norm's weights.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # transformers before 5.6 keeps the layers one level down.
        self.final_layer_norm = getattr(model, "text_model", model).final_layer_norm

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        result = self.model(input_ids, output_hidden_states=True, return_dict=True)
        states = result.hidden_states
        # Layer 0 is the embedding: skipping every layer is no text encoder any more.
        skipped = [self.final_layer_norm(states[-1 - k]) for k in range(1, len(states) - 1)]
        return result.last_hidden_state, result.pooler_output, *states, *skipped


class ProjectedTextEncoder(nn.Module):
    """Stable Diffusion XL's second text encoder: the pooled output projected, and every layer's.

    XL's UNets attend to raw states, so nothing is normed as in `TextEncoder`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        result = self.model(input_ids, output_hidden_states=True, return_dict=True)
        return result.text_embeds, result.last_hidden_state, *result.hidden_states


class UNet(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor
    ) -> tuple[Tensor]:
        return self.model(sample, timestep, encoder_hidden_states, return_dict=False)


class GuidedUNet(UNet):
    """A UNet distilled with its guidance scale as an input (latent consistency models)."""

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        timestep_cond: Tensor,
    ) -> tuple[Tensor]:
        return self.model(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=timestep_cond,
            return_dict=False,
        )


class XLUNet(UNet):
    """Stable Diffusion XL's: it also sees the pooled prompt and the sizes [Podell et al. 2023]."""

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embeds: Tensor,
        time_ids: Tensor,
        timestep_cond: Tensor | None = None,
    ) -> tuple[Tensor]:
        return self.model(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=timestep_cond,
            added_cond_kwargs={"text_embeds": text_embeds, "time_ids": time_ids},
            return_dict=False,
        )


class ControlNet(nn.Module):
    """Its residuals as they are: the runtime scales and sums them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor,
    ) -> tuple[Tensor, ...]:
        down, middle = self.model(
            sample, timestep, encoder_hidden_states, controlnet_cond, return_dict=False
        )
        return *down, middle


class UpscalingUNet(UNet):
    """A UNet that is told how noisy the small picture beside the latents is (the x4 upscaler)."""

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        class_labels: Tensor,
    ) -> tuple[Tensor]:
        return self.model(
            sample, timestep, encoder_hidden_states, class_labels=class_labels, return_dict=False
        )


class VaeDecoder(nn.Module):
    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: Tensor) -> tuple[Tensor]:
        return self.vae.decode(latent_sample, return_dict=False)


class VaeEncoder(nn.Module):
    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, sample: Tensor) -> Tensor:
        return self.vae.encode(sample, return_dict=False)[0].parameters


class SafetyChecker(nn.Module):
    """How near a picture is to each concept: cosines, which numpy compares with the thresholds.

    diffusers' checker decides inside; a graph that does could not say why.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, clip_input: Tensor) -> tuple[Tensor, ...]:
        pooled = self.model.vision_model(clip_input)[1]
        embedding = nn.functional.normalize(self.model.visual_projection(pooled))
        concepts = self.model.special_care_embeds, self.model.concept_embeds
        return tuple(embedding @ nn.functional.normalize(concept).T for concept in concepts)


def text_encoder(model: Any) -> Graph:
    config = model.config
    free = {0: "batch_size", 1: "sequence_length"}
    layers = config.num_hidden_layers
    names = [f"hidden_states.{i}" for i in range(layers + 1)]
    names += [f"clip_skip.{k}" for k in range(1, layers)]
    outputs = {"last_hidden_state": free, "pooler_output": {0: "batch_size"}}
    return Graph(
        name="text_encoder",
        module=TextEncoder(model).eval(),
        inputs={"input_ids": free},
        outputs=outputs | dict.fromkeys(names, free),
        cases=_prompts(config),
    )


def text_encoder_2(model: Any) -> Graph:
    free = {0: "batch_size", 1: "sequence_length"}
    names = [f"hidden_states.{i}" for i in range(model.config.num_hidden_layers + 1)]
    outputs = {"text_embeds": {0: "batch_size"}, "last_hidden_state": free}
    return Graph(
        name="text_encoder_2",
        module=ProjectedTextEncoder(model).eval(),
        inputs={"input_ids": free},
        outputs=outputs | dict.fromkeys(names, free),
        cases=_prompts(model.config),
    )


def _prompts(config: Any) -> list[Callable[[], Inputs]]:
    longest = config.max_position_embeddings

    def ids(batch: int, tokens: int) -> Inputs:
        numbers = _random(batch, tokens) * config.vocab_size * 4
        drawn = numbers.abs().long() % config.vocab_size
        # The pooled output is the state at the first end token: put one into each prompt.
        end = config.eos_token_id if config.eos_token_id != 2 else config.vocab_size - 1
        drawn[:, -1] = end if 0 <= (end or 0) < config.vocab_size else config.vocab_size - 1
        return {"input_ids": drawn}

    return [lambda: ids(2, longest), lambda: ids(1, longest), lambda: ids(3, longest // 3)]


def unet(model: Any) -> Graph:
    config = model.config
    conditions = _conditions(config)
    inputs = {
        "sample": {0: "batch_size", 2: "height", 3: "width"},
        "timestep": {0: "batch_size"},
        "encoder_hidden_states": {0: "batch_size", 1: "sequence_length"},
    }
    inputs |= {name: {0: "batch_size"} for name in conditions}
    levels = config.num_class_embeds
    if levels is not None:
        inputs["class_labels"] = {0: "batch_size"}
    sees = "time_ids" in conditions, "timestep_cond" in conditions
    kind = _UNETS[sees] if levels is None else UpscalingUNet

    def case(batch: int, height: int, width: int, tokens: int, timestep: int) -> Inputs:
        values = {
            "sample": _random(batch, config.in_channels, height, width),
            "timestep": torch.full((batch,), timestep, dtype=torch.int64),
            "encoder_hidden_states": _random(batch, tokens, config.cross_attention_dim),
        }
        values |= {name: _random(batch, width) for name, width in conditions.items()}
        if levels is not None:
            values["class_labels"] = torch.full((batch,), timestep % levels, dtype=torch.int64)
        return values

    return Graph(
        name="unet",
        module=kind(model).eval(),
        inputs=inputs,
        outputs={"out_sample": {0: "batch_size", 2: "height", 3: "width"}},
        cases=[
            lambda: case(2, 9, 13, 77, 501),
            lambda: case(1, 16, 16, 77, 1),
            lambda: case(3, 12, 8, 154, 999),
        ],
    )


# By what it sees beside the usual three: sizes, its guidance scale.
_UNETS = {
    (False, False): UNet,
    (False, True): GuidedUNet,
    (True, False): XLUNet,
    (True, True): XLUNet,
}


def _conditions(config: Any) -> dict[str, int]:
    """What a UNet sees beside the usual three, (batch, width) each: name -> width."""
    widths = {}
    if config.addition_embed_type == "text_time":
        widths["text_embeds"] = config.text_encoder_projection_dim
        widths["time_ids"] = xl.time_ids(config.requires_aesthetics_score)
    if config.time_cond_proj_dim is not None:
        widths["timestep_cond"] = config.time_cond_proj_dim
    return widths


def vae_decoder(vae: Any) -> Graph:
    channels = vae.config.latent_channels

    def case(*shape: int) -> Inputs:
        return {"latent_sample": _random(shape[0], channels, *shape[1:])}

    return Graph(
        name="vae_decoder",
        module=VaeDecoder(vae).eval(),
        inputs={"latent_sample": {0: "batch_size", 2: "latent_height", 3: "latent_width"}},
        outputs={"sample": {0: "batch_size", 2: "height", 3: "width"}},
        cases=[lambda: case(2, 9, 13), lambda: case(1, 8, 8), lambda: case(3, 12, 8)],
    )


def vae_encoder(vae: Any) -> Graph:
    channels = vae.config.in_channels
    factor = 2 ** (len(vae.config.down_block_types) - 1)

    def case(batch: int, height: int, width: int) -> Inputs:
        return {"sample": _random(batch, channels, height * factor, width * factor)}

    return Graph(
        name="vae_encoder",
        module=VaeEncoder(vae).eval(),
        inputs={"sample": {0: "batch_size", 2: "height", 3: "width"}},
        outputs={"latent_parameters": {0: "batch_size", 2: "latent_height", 3: "latent_width"}},
        cases=[lambda: case(2, 9, 13), lambda: case(1, 8, 8), lambda: case(3, 12, 8)],
    )


def controlnet(model: Any) -> Graph:
    """diffusers' names for the ends; optimum, which has no ControlNets, sets none."""
    config = model.config
    picture = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
    down = len(model.controlnet_down_blocks)
    names = [*(f"down_block_res_samples.{i}" for i in range(down)), "mid_block_res_sample"]

    def case(batch: int, height: int, width: int, tokens: int, timestep: int) -> Inputs:
        return {
            "sample": _random(batch, config.in_channels, height, width),
            "timestep": torch.full((batch,), timestep, dtype=torch.int64),
            "encoder_hidden_states": _random(batch, tokens, config.cross_attention_dim),
            "controlnet_cond": _random(batch, 3, height * picture, width * picture),
        }

    return Graph(
        name="controlnet",
        module=ControlNet(model).eval(),
        inputs={
            "sample": {0: "batch_size", 2: "height", 3: "width"},
            "timestep": {0: "batch_size"},
            "encoder_hidden_states": {0: "batch_size", 1: "sequence_length"},
            "controlnet_cond": {0: "batch_size", 2: "picture_height", 3: "picture_width"},
        },
        outputs={
            name: {0: "batch_size", 2: f"height_{name}", 3: f"width_{name}"} for name in names
        },
        cases=[
            lambda: case(2, 9, 13, 77, 501),
            lambda: case(1, 16, 16, 77, 1),
            lambda: case(3, 12, 8, 154, 999),
        ],
    )


def safety_checker(model: Any) -> Graph:
    side = model.config.vision_config.image_size

    def case(batch: int) -> Inputs:
        return {"clip_input": _random(batch, 3, side, side)}

    return Graph(
        name="safety_checker",
        module=SafetyChecker(model).eval(),
        inputs={"clip_input": {0: "batch_size"}},
        outputs={"special_cos_dist": {0: "batch_size"}, "cos_dist": {0: "batch_size"}},
        cases=[lambda: case(2), lambda: case(1)],
    )


BUILD: dict[str, Callable[[Any], Graph]] = {
    "text_encoder": text_encoder,
    "text_encoder_2": text_encoder_2,
    "unet": unet,
    "vae_decoder": vae_decoder,
    "vae_encoder": vae_encoder,
    "safety_checker": safety_checker,
    "vae_decoder_tiny": vae_decoder,
}


def _random(*shape: int) -> Tensor:
    """Standard normal numbers that are the same in every run: a manifest can be repeated."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
