"""Teach the text encoder what captions mean, before any picture is painted.

Stable Diffusion's text encoder comes from CLIP, which learnt from captions beside pictures. This
one learns from captions beside scenes: from the state at the end of a caption, linear heads must
name its things from left to right, their number, the style and the background, each of which may be
unsaid. The heads are then thrown away. The diffusion stage trains the encoder on, from here: names
of one thing in two languages already lie together, and only what they look like is left to learn.

Writes `work/text_encoder/` (transformers).
"""

from random import Random

import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import WORK
from .captions import caption
from .loop import parse_options, pick_device, train
from .scenes import Scene, draw_seen
from .vocabulary import BACKGROUNDS, STYLES, SUBJECTS
from .workers import is_first_worker

KINDS = ("single", "single", "pair", "pair", "count")
SAID = 0.6  # how often a caption names the style; and the background
LABEL_SMOOTHING = 0.1
#: What each head tells apart; the last class of style and background is "unsaid".
HEADS = {
    "first": len(SUBJECTS),
    "last": len(SUBJECTS),
    "number": 3,
    "style": len(STYLES) + 1,
    "background": len(BACKGROUNDS) + 1,
}


def build(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            projection_dim=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Captions:
    """Endless batches of captions with what they say, in an order that the seed fixes."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.random = Random()
        self.places = {name: place for place, name in enumerate(SUBJECTS)}
        self.styles = {name: place for place, name in enumerate(STYLES)}
        self.backgrounds = {name: place for place, name in enumerate(BACKGROUNDS)}

    def seed(self, seed: int) -> None:
        self.random.seed(seed)

    def batch(self, size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Input ids int64 (size, longest) and a label for each head, int64 (size,)."""
        texts, labels = zip(*(self._draw() for _ in range(size)), strict=True)
        ids = self.tokenizer(list(texts), padding="longest", return_tensors="pt").input_ids
        return ids, {head: torch.tensor([row[head] for row in labels]) for head in HEADS}

    def _draw(self) -> tuple[str, dict[str, int]]:
        random = self.random
        scene = draw_seen(random, random.choice(KINDS))
        style, background = random.random() < SAID, random.random() < SAID
        words = caption(random, scene, style=style, background=background)
        return words, self._labels(scene, style, background)

    def _labels(self, scene: Scene, style: bool, background: bool) -> dict[str, int]:
        return {
            "first": self.places[scene.things[0]],
            "last": self.places[scene.things[-1]],
            "number": len(scene.things) - 1,
            "style": self.styles[scene.style] if style else len(STYLES),
            "background": (self.backgrounds[scene.background] if background else len(BACKGROUNDS)),
        }


class Understanding(nn.Module):
    """The text encoder with its heads."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        width = text_encoder.config.hidden_size
        self.heads = nn.ModuleDict({head: nn.Linear(width, n) for head, n in HEADS.items()})

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of each head, (B, classes), from the state at the caption's end."""
        pooled = self.text_encoder(input_ids).pooler_output
        return {name: head(pooled) for name, head in self.heads.items()}


def main() -> None:
    options = parse_options(minutes=6.0, batch=128, rate=1e-3)
    device = pick_device()
    torch.manual_seed(options.seed)  # the same first weights on every worker
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
    model = Understanding(build(tokenizer)).to(device)

    def losses(captions: Captions, size: int, share: float) -> dict[str, torch.Tensor]:
        input_ids, labels = captions.batch(size)
        logits = model(input_ids.to(device))
        scalars = {
            head: functional.cross_entropy(
                logits[head], labels[head].to(device), label_smoothing=LABEL_SMOOTHING
            )
            for head in HEADS
        }
        right = (logits["first"].argmax(1).cpu() == labels["first"]).float().mean()
        return {"loss": torch.stack(list(scalars.values())).sum(), **scalars, "right": right}

    train("text_encoder", model, Captions(tokenizer), losses, options)
    if is_first_worker():
        model.text_encoder.save_pretrained(WORK / "text_encoder")


if __name__ == "__main__":
    main()
