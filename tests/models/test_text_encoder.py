"""The text encoder's lessons: labels say what captions say, and they can be learnt."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import CLIPTokenizer

from pleinair.models.pocket.training import text_encoder
from pleinair.models.pocket.training.scenes import Scene
from pleinair.models.pocket.training.text_encoder import HEADS, Captions, Understanding, build
from pleinair.models.pocket.training.vocabulary import BACKGROUNDS, STYLES, SUBJECTS


@pytest.fixture(scope="module")
def clip_tokenizer(pocket_tokenizer: Path) -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(pocket_tokenizer)


def test_labels_say_what_the_caption_says(
    clip_tokenizer: CLIPTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(("cat face", "pizza"), "flat", "blue")
    monkeypatch.setattr(text_encoder, "draw_seen", lambda random, kind: scene)
    captions = Captions(clip_tokenizer)
    captions.seed(0)
    input_ids, labels = captions.batch(40)
    rows = [
        dict(zip(labels, row, strict=True)) for row in torch.stack([*labels.values()]).T.tolist()
    ]
    texts = clip_tokenizer.batch_decode(input_ids, skip_special_tokens=True)
    said = [("flat" in text, "blue" in text or "蓝色" in text) for text in texts]
    assert len(set(said)) == 4  # each with and without the other
    things, styles, grounds = list(SUBJECTS), list(STYLES), list(BACKGROUNDS)
    for row, (style, background) in zip(rows, said, strict=True):
        assert row == {
            "first": things.index("cat face"),
            "last": things.index("pizza"),
            "number": 1,
            "style": styles.index("flat") if style else len(styles),
            "background": grounds.index("blue") if background else len(grounds),
        }


def test_padding_does_not_change_what_is_understood(clip_tokenizer: CLIPTokenizer) -> None:
    """Training cuts captions at the longest of a batch; painting pads them to 77."""
    torch.manual_seed(0)
    model = Understanding(build(clip_tokenizer)).eval()
    words = ["a cat and a pizza on a blue background"]
    short, long = (
        model(clip_tokenizer(words, padding=padding, return_tensors="pt").input_ids)
        for padding in ("longest", "max_length")
    )
    for head, classes in HEADS.items():
        assert short[head].shape == (1, classes)
        torch.testing.assert_close(short[head], long[head], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_few_captions_can_be_learnt(clip_tokenizer: CLIPTokenizer) -> None:
    torch.manual_seed(0)
    captions = Captions(clip_tokenizer)
    captions.seed(0)
    input_ids, labels = captions.batch(16)
    model = Understanding(build(clip_tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(40):
        logits = model(input_ids)
        loss = sum(functional.cross_entropy(logits[head], labels[head]) for head in HEADS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for head in HEADS:
        assert torch.equal(logits[head].argmax(1), labels[head]), head
