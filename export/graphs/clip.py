"""CLIP's text encoders, with all of their hidden states."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .graph import Graph, Inputs, Wrapper, normal

_TOKENS = {0: "batch_size", 1: "sequence_length"}


class TextEncoder(Wrapper):
    """CLIP's text model, with every layer's output beside the last.

    `hidden_states.i` are the raw states, as optimum writes them. `clip_skip.k` is the state k
    layers before the end after the final layer norm, which is what diffusers feeds to the UNet
    for `clip_skip=k`; a runtime without torch cannot get at that norm's weights.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        # transformers before 5.6 keeps the layers one level down.
        self.final_layer_norm = getattr(model, "text_model", model).final_layer_norm

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        result = self.model(input_ids, output_hidden_states=True, return_dict=True)
        states = result.hidden_states
        # Layer 0 is the embedding: skipping every layer is no text encoder any more.
        skipped = [self.final_layer_norm(states[-1 - k]) for k in range(1, len(states) - 1)]
        return result.last_hidden_state, result.pooler_output, *states, *skipped


class ProjectedTextEncoder(Wrapper):
    """CLIP's text model with its projection: the pooled output projected, and every layer's.

    What attends to it takes raw states, so nothing is normed as in `TextEncoder`.
    """

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        result = self.model(input_ids, output_hidden_states=True, return_dict=True)
        return result.text_embeds, result.last_hidden_state, *result.hidden_states


def text_encoder(model: Any) -> Graph:
    """The graph of transformers' CLIPTextModel."""
    layers = model.config.num_hidden_layers
    names = [f"hidden_states.{i}" for i in range(layers + 1)]
    names += [f"clip_skip.{k}" for k in range(1, layers)]
    outputs = {"last_hidden_state": _TOKENS, "pooler_output": {0: "batch_size"}}
    return Graph(
        name="text_encoder",
        module=TextEncoder(model).eval(),
        inputs={"input_ids": _TOKENS},
        outputs=outputs | dict.fromkeys(names, _TOKENS),
        cases=_prompts(model.config),
    )


def projected_text_encoder(model: Any) -> Graph:
    """The graph of transformers' CLIPTextModelWithProjection."""
    names = [f"hidden_states.{i}" for i in range(model.config.num_hidden_layers + 1)]
    outputs = {"text_embeds": {0: "batch_size"}, "last_hidden_state": _TOKENS}
    return Graph(
        name="projected_text_encoder",
        module=ProjectedTextEncoder(model).eval(),
        inputs={"input_ids": _TOKENS},
        outputs=outputs | dict.fromkeys(names, _TOKENS),
        cases=_prompts(model.config),
    )


def _prompts(config: Any) -> list[Callable[[], Inputs]]:
    longest = config.max_position_embeddings

    def ids(batch: int, tokens: int) -> Inputs:
        numbers = normal(batch, tokens) * config.vocab_size * 4
        drawn = numbers.abs().long() % config.vocab_size
        # The pooled output is the state at the first end token: put one into each prompt.
        end = config.eos_token_id if config.eos_token_id != 2 else config.vocab_size - 1
        drawn[:, -1] = end if 0 <= (end or 0) < config.vocab_size else config.vocab_size - 1
        return {"input_ids": drawn}

    return [lambda: ids(2, longest), lambda: ids(1, longest), lambda: ids(3, longest // 3)]
