"""T5's text encoder."""

from typing import Any

from torch import Tensor

from .graph import Graph, Inputs, Wrapper, normal

_TOKENS = {0: "batch_size", 1: "sequence_length"}


class T5Encoder(Wrapper):
    """T5's encoder without an attention mask: what attends to it was trained on its padding."""

    def forward(self, input_ids: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids).last_hidden_state
        return states


def t5_encoder(model: Any) -> Graph:
    """The graph of transformers' T5EncoderModel."""
    vocabulary = model.config.vocab_size

    def ids(batch: int, tokens: int) -> Inputs:
        return {"input_ids": (normal(batch, tokens) * vocabulary * 4).abs().long() % vocabulary}

    return Graph(
        name="t5_encoder",
        module=T5Encoder(model).eval(),
        inputs={"input_ids": _TOKENS},
        outputs={"last_hidden_state": _TOKENS},
        cases=[lambda: ids(2, 77), lambda: ids(1, 256), lambda: ids(3, 16)],
    )
