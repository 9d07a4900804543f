"""Put the trained parts into `models/pocket`, in place of the old.

- `source/`: the model as an ordinary diffusers folder in float16, to train on or to convert; beside
  the model's parts `lcm_lora/` (few steps) and `tiny_vae/` (the tiny decoder);
- `vocabulary.json`: the words that the model knows;
- everything else: the export of `source/`, OpenVINO IR and ONNX in one folder.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline

from pleinair.export import export_model, manifest
from pleinair.runtime.files import read_json
from pleinair.runtime.model import catalog
from pleinair.runtime.model.bundle import Bundle
from pleinair.runtime.text import known_words

from . import WORK
from .checkpoint import forget_origin, save_pipeline
from .listing import listing

POCKET = Path(__file__).parents[1]
# What stands in models/pocket beside the model itself.
KEPT = {"README.md", "sheets", "training"}


def write_source(checkpoint: Path, folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(checkpoint, torch_dtype=torch.float16)
    save_pipeline(pipeline, folder)
    tiny = AutoencoderTiny.from_pretrained(WORK / "tiny_vae", torch_dtype=torch.float16)
    tiny.save_pretrained(folder / "tiny_vae")
    forget_origin(folder / "tiny_vae" / "config.json")
    (folder / "lcm_lora").mkdir()
    lora = "pytorch_lora_weights.safetensors"
    shutil.copyfile(WORK / "few_step" / lora, folder / "lcm_lora" / lora)


def describe(folder: Path) -> None:
    """Let the folder say what the catalog recommends, for copies under other names; and its words.

    The words stand in the order of training's list, things first.
    """
    entry = catalog.known("pocket")
    assert entry is not None
    words = folder / known_words.FILE
    words.write_text(
        json.dumps(listing(), ensure_ascii=False, indent=1) + "\n", "utf-8", newline="\n"
    )
    described = read_json(folder / manifest.FILE)
    described["recommended"] = catalog.recommendation(entry)
    described["files"][known_words.FILE] = manifest.describe(words)
    manifest.write_json(folder / manifest.FILE, described)


def bundle(checkpoint: Path) -> None:
    """The model's own files are replaced as a whole, after the new ones passed their checks."""
    with tempfile.TemporaryDirectory(dir=POCKET.parent) as folder:
        source = Path(folder) / "source"
        write_source(checkpoint, source)
        fresh = export_model(
            source,
            Path(folder) / "pocket",
            ("openvino", "onnx"),
            "fp16",
            tiny_vae=source / "tiny_vae",
        )
        describe(fresh)
        Bundle.open(fresh).verify()
        for old in POCKET.iterdir():
            if old.name not in KEPT:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        for new in (source, *fresh.iterdir()):
            shutil.move(new, POCKET / new.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=WORK / "text_distillation")
    bundle(parser.parse_args().checkpoint)


if __name__ == "__main__":
    main()
