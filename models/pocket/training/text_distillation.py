"""Teach the text encoder further wordings, and nothing else: the U-Net stays as it is.

Teacher and student begin as the same text encoder. For a caption of training the student is to give
the teacher's own numbers; for a wording that training never said (`phrasings`) it is to tell the
U-Net what the teacher tells it for the caption of the same meaning. The two are of different
lengths, so they are not compared token by token, but by what reads them: the outputs of the U-Net's
cross-attention layers, for queries that were collected while it painted.

    python -m models.pocket.training.text_distillation --minutes 15

Reads `work/checkpoint/`, writes `work/text_distillation/`: the same diffusers folder with the new
text encoder, which `bundle` converts. Picks up where it was stopped.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from . import WORK
from .captions import caption
from .checkpoint import noise_scheduler, save_pipeline
from .loop import parse_options, pick_device, train
from .phrasings import COLOURFUL, phrasing
from .scenes import Scene, draw_seen

KINDS = ("single", "single", "single", "pair", "count")
SAID = 0.5  # how often a style is said; and a background
KEPT = 0.4  # of a batch: captions that the student has to read as its teacher does
KEPT_WEIGHT = 30.0
COLOURFUL_SHARE = 0.25  # of the texts are of things that come in colours, easily confused
SHORT, LENGTH = 0.75, 40  # of the batches, in tokens
QUERIES = 64  # for each layer
PAINTED, STEPS = 24, 12  # pictures and steps whose queries are collected


class Wordings:
    """Endless batches of texts and the captions they mean, in an order that the seed fixes."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.random = Random()

    def seed(self, seed: int) -> None:
        self.random.seed(seed)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Input ids (size, length) of texts and of their captions, and which texts are captions.

        Three batches of four have less padding than the 77 tokens that the U-Net sees: no token
        looks at those behind it, so what is left out changes no state, and takes half the time.
        """
        pairs = [("", ""), *(self._draw(row < KEPT * size) for row in range(1, size))]
        texts, captions = (self._ids(column) for column in zip(*pairs, strict=True))
        if self.random.random() < SHORT:
            begun = texts.eq(self.tokenizer.eos_token_id).long().argmax(1).max().item()
            length = max(LENGTH, begun + 1)
            texts, captions = texts[:, :length], captions[:, :length]
        return texts, captions, torch.tensor([text == caption for text, caption in pairs])

    def _draw(self, kept: bool) -> tuple[str, str]:
        random = self.random
        scene = draw_seen(random, random.choice(KINDS))
        said = {"style": random.random() < SAID, "background": random.random() < SAID}
        if random.random() < COLOURFUL_SHARE:
            scene = draw_colourful(random)
        if kept:
            words = caption(random, scene, **said)
            return words, words
        found = phrasing(random, scene, **said)
        return found.text, found.caption

    def _ids(self, texts: tuple[str, ...]) -> torch.Tensor:
        return self.tokenizer(list(texts), padding="max_length", return_tensors="pt").input_ids


def draw_colourful(random: Random) -> Scene:
    """One or two things that come in colours, in a scene that training may see."""
    while True:
        things = tuple(random.sample(COLOURFUL, random.choice((1, 2, 2))))
        scene = replace(draw_seen(random, "single"), things=things)
        if not scene.held_out:
            return scene


class Attended(nn.Module):
    """What one cross-attention layer of the U-Net reads from a text, for fixed queries."""

    def __init__(self, layer: Attention, queries: torch.Tensor) -> None:
        super().__init__()
        self.heads = layer.heads
        self.to_k, self.to_v, self.to_out = layer.to_k, layer.to_v, layer.to_out[0]
        self.register_buffer("queries", self._by_head(queries[None]))
        self.requires_grad_(False)

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, heads * d) as (B, heads, N, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, queries, channels) of a text's states, (B, tokens, width)."""
        keys, values = self._by_head(self.to_k(hidden)), self._by_head(self.to_v(hidden))
        queries = self.queries.expand(len(hidden), -1, -1, -1)
        read = nn.functional.scaled_dot_product_attention(queries, keys, values)
        return self.to_out(read.transpose(1, 2).flatten(2))


class TextDistillation(nn.Module):
    """Student and teacher, and how differently they speak to the U-Net."""

    def __init__(self, text_encoder: CLIPTextModel, layers: list[Attended]) -> None:
        super().__init__()
        self.student = text_encoder
        self.teacher = deepcopy(text_encoder).requires_grad_(False)
        self.layers = nn.ModuleList(layers)

    def losses(
        self, texts: torch.Tensor, captions: torch.Tensor, kept: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Each relative to how much the teacher's own answers vary from caption to caption."""
        said = self.student(texts)[0]
        with torch.no_grad():
            wanted = self.teacher(captions)[0]
        same = _apart(said, wanted)[kept].mean()
        said, wanted = said[~kept], wanted[~kept]
        read = [_apart(layer(said), layer(wanted)).mean() for layer in self.layers]
        told = torch.stack(read).mean()
        return {"loss": told + KEPT_WEIGHT * same, "told": told, "same": same}


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of each row, relative to the variance over the batch; (B,)."""
    varies = (wanted - wanted.mean(0)).square().mean()
    return (found - wanted).square().mean((1, 2)) / varies


@torch.no_grad()
def collect_queries(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> list[Attended]:
    """Each cross-attention layer, with queries of pictures that are painted without guidance."""
    names = [name for name, part in unet.named_modules() if name.endswith("attn2")]
    found: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    hooks = [
        unet.get_submodule(name).to_q.register_forward_hook(
            lambda _, inputs, output, name=name: found[name].append(output.flatten(0, 1))
        )
        for name in names
    ]
    random, torch_random = Random(0), torch.Generator().manual_seed(0)
    words = [
        caption(random, draw_seen(random, kind), style=random.random() < SAID)
        for kind in KINDS * math.ceil(PAINTED / len(KINDS))
    ][:PAINTED]
    ids = tokenizer(words, padding="max_length", return_tensors="pt").input_ids
    hidden = text_encoder(ids.to(unet.device))[0]
    side = unet.config.sample_size
    latents = torch.randn((PAINTED, unet.config.in_channels, side, side), generator=torch_random)
    latents, scheduler = latents.to(unet.device), noise_scheduler()
    scheduler.set_timesteps(STEPS)
    for timestep in scheduler.timesteps:
        noise = unet(latents, timestep, hidden).sample
        latents = scheduler.step(noise, timestep, latents).prev_sample
    for hook in hooks:
        hook.remove()
    return list(_attended(unet, found, torch_random))


def _attended(
    unet: UNet2DConditionModel, found: dict[str, list[torch.Tensor]], random: torch.Generator
) -> Iterator[Attended]:
    for name, parts in found.items():
        queries = torch.cat(parts)
        chosen = torch.randperm(len(queries), generator=random)[:QUERIES]
        yield Attended(unet.get_submodule(name), queries[chosen])


def main() -> None:
    options = parse_options(
        minutes=15.0,
        batch=48,
        rate=1e-3,
        checkpoint=(WORK / "checkpoint", "diffusers folder to begin from"),
    )
    checkpoint: Path = options.checkpoint
    device = pick_device()
    torch.manual_seed(options.seed)  # the same queries on every worker
    unet = UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet").float().to(device)
    encoder = CLIPTextModel.from_pretrained(checkpoint, subfolder="text_encoder").float().to(device)
    tokenizer = CLIPTokenizer.from_pretrained(checkpoint, subfolder="tokenizer")
    layers = collect_queries(unet.requires_grad_(False), encoder, tokenizer)
    distillation = TextDistillation(encoder, layers).to(device)

    def losses(wordings: Wordings, size: int, share: float) -> dict[str, torch.Tensor]:
        return distillation.losses(*(part.to(device) for part in wordings.batch(size)))

    def save() -> None:
        pipeline = StableDiffusionPipeline.from_pretrained(checkpoint, text_encoder=encoder)
        save_pipeline(pipeline, WORK / "text_distillation")

    train(
        "text_distillation", distillation.student, Wordings(tokenizer), losses, options, save=save
    )


if __name__ == "__main__":
    main()
