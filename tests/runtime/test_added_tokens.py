"""A pipeline saved whole with words of textual inversion: Stable Diffusion XL's two tokenizers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints_xl import tiny_stable_diffusion_xl
from pleinair.export import export_model
from pleinair.runtime import StableDiffusionPipeline
from references import differ

pytestmark = pytest.mark.usefixtures("compiled_once")

torch = pytest.importorskip("torch")

# What each tokenizer has learnt: the word in both has two ids.
WORDS = {"": ["<my-word>"], "_2": ["zork", "<my-word>"]}


def taught(folder: Path) -> None:
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tiny_stable_diffusion_xl(folder)
    models = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection}
    for part, words in WORDS.items():
        tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{part}")
        encoder = models[part].from_pretrained(folder / f"text_encoder{part}")
        tokenizer.add_tokens(words)
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        rows = encoder.get_input_embeddings().weight.data[-len(words) :]
        rows.copy_(torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)))
        tokenizer.save_pretrained(folder / f"tokenizer{part}")
        encoder.save_pretrained(folder / f"text_encoder{part}")


@pytest.mark.usefixtures("traced_once")
def test_the_picture_is_diffusers(made: Callable[..., Path], tmp_path: Path) -> None:
    """Slow for its export: what becomes of added tokens on the way is what is tested."""
    from diffusers import StableDiffusionXLPipeline

    checkpoint, folder = made("checkpoint/taught-xl", taught), tmp_path / "model"
    export_model(checkpoint, folder, ["openvino"], "fp32")
    theirs = StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False)
    theirs.set_progress_bar_config(disable=True)
    ours = StableDiffusionPipeline.from_pretrained(
        folder, engine="openvino", device="cpu", profile="exact"
    )
    prompt = "a photo of <my-word>, a ZORK on a table!"
    size: Any = {"num_inference_steps": 2, "guidance_scale": 5.0, "width": 64, "height": 64}
    generator = torch.Generator().manual_seed(3)
    right = theirs(
        prompt, negative_prompt="zork", generator=generator, output_type="np", **size
    ).images
    found = ours(prompt, "zork", seed=3, **size).images
    assert differ(found, (right * 255).round().astype("uint8")) <= 1
    read = ours.plan(prompt, **size).prompts[prompt].texts[0]
    for part, chunks in (("", read.first), ("_2", read.second)):
        ids = getattr(theirs, f"tokenizer{part}")(prompt).input_ids
        (chunk,) = chunks
        assert chunk.ids[0, : len(ids)].tolist() == ids
    assert 605 in read.second.chunks[0].ids
    assert 604 in read.first.chunks[0].ids
