"""A ControlNet's residuals."""

from typing import Any

from torch import Tensor

from . import unet
from .graph import Graph, Inputs, Wrapper, normal


class ControlNet(Wrapper):
    """Its residuals as they are: the runtime scales and sums them."""

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


def controlnet(model: Any) -> Graph:
    """The graph of diffusers' ControlNetModel, with diffusers' names for its ends.

    optimum, which has no ControlNets, sets none.
    """
    config = model.config
    factor = 2 ** (len(config.conditioning_embedding_out_channels) - 1)
    down = len(model.controlnet_down_blocks)
    names = [*(f"down_block_res_samples.{i}" for i in range(down)), "mid_block_res_sample"]

    def case(batch: int, height: int, width: int, tokens: int, timestep: int) -> Inputs:
        picture = normal(batch, 3, height * factor, width * factor)
        values = unet.inputs(config, batch, height, width, tokens, timestep)
        return values | {"controlnet_cond": picture}

    picture = {0: "batch_size", 2: "picture_height", 3: "picture_width"}
    return Graph(
        name="controlnet",
        module=ControlNet(model).eval(),
        inputs=unet.ENDS | {"controlnet_cond": picture},
        outputs={
            name: {0: "batch_size", 2: f"height_{name}", 3: f"width_{name}"} for name in names
        },
        cases=unet.cases(case),
        scalars=frozenset({"timestep"}),
    )
