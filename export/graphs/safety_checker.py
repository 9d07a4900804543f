"""Stable Diffusion's safety checker."""

from typing import Any

from torch import Tensor, nn

from .graph import Graph, Inputs, Wrapper, normal


class SafetyChecker(Wrapper):
    """How near a picture is to each concept: cosines, which numpy compares with the thresholds.

    diffusers' checker decides inside; a graph that does could not say why.
    """

    def forward(self, clip_input: Tensor) -> tuple[Tensor, ...]:
        pooled = self.model.vision_model(clip_input)[1]
        embedding = nn.functional.normalize(self.model.visual_projection(pooled))
        concepts = self.model.special_care_embeds, self.model.concept_embeds
        return tuple(embedding @ nn.functional.normalize(concept).T for concept in concepts)


def safety_checker(model: Any) -> Graph:
    """The graph of diffusers' StableDiffusionSafetyChecker."""
    side = model.config.vision_config.image_size

    def case(batch: int) -> Inputs:
        return {"clip_input": normal(batch, 3, side, side)}

    return Graph(
        name="safety_checker",
        module=SafetyChecker(model).eval(),
        inputs={"clip_input": {0: "batch_size"}},
        outputs={"special_cos_dist": {0: "batch_size"}, "cos_dist": {0: "batch_size"}},
        cases=[lambda: case(2), lambda: case(1)],
    )
