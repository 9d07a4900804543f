"""MMDiT, a transformer of two streams, text and patches of the latents [Esser et al. 2024]."""

from typing import Any

import torch
from torch import Tensor

from .graph import Graph, Inputs, Wrapper, normal

_BATCH = {0: "batch_size"}
_LATENTS = {0: "batch_size", 2: "height", 3: "width"}


class MMDiT(Wrapper):
    """Its velocity, for latents whose sides are multiples of the patch size.

    They are at most as large as its table of positions.
    """

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
        timestep: Tensor,
    ) -> tuple[Tensor]:
        out: tuple[Tensor] = self.model(
            hidden_states=hidden_states,
            encoder_hidden_states=encoder_hidden_states,
            pooled_projections=pooled_projections,
            timestep=timestep,
            return_dict=False,
        )
        return out


def mmdit(model: Any) -> Graph:
    """The graph of diffusers' SD3Transformer2DModel.

    The timestep is float32, one a row of the batch: those of a flow are no whole numbers.
    """
    config = model.config
    patch, most = config.patch_size, config.pos_embed_max_size

    def case(batch: int, rows: int, columns: int, tokens: int, timestep: float) -> Inputs:
        return {
            "hidden_states": normal(batch, config.in_channels, rows * patch, columns * patch),
            "encoder_hidden_states": normal(batch, tokens, config.joint_attention_dim),
            "pooled_projections": normal(batch, config.pooled_projection_dim),
            "timestep": torch.full((batch,), timestep),
        }

    return Graph(
        name="mmdit",
        module=MMDiT(model).eval(),
        inputs={
            "hidden_states": _LATENTS,
            "encoder_hidden_states": {0: "batch_size", 1: "sequence_length"},
            "pooled_projections": _BATCH,
            "timestep": _BATCH,
        },
        outputs={"out_hidden_states": _LATENTS},
        cases=[
            lambda: case(2, 5, 7, 154, 501.25),
            lambda: case(1, 8, 8, 77 + 256, 1000.0),
            lambda: case(3, 6, 4, 77, 8.96),
            lambda: case(1, 1, most, 5, 250.5),  # to the ends of the table of positions
        ],
    )
