"""A diffusers folder of Stable Diffusion 1 as the one .safetensors of the original layout."""

import argparse
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import ExportError, SettingError
from pleinair.runtime.files import read_json, replacing


def add_to(commands: Any) -> None:
    about = "write a diffusers folder as one .safetensors, for programs that read nothing else"
    parser = commands.add_parser("single-file", help=about, description=about)
    parser.add_argument("checkpoint", type=Path, help="a diffusers folder of Stable Diffusion 1")
    parser.add_argument("file", type=Path, help="the .safetensors to write")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    write(options.checkpoint, options.file)
    print(options.file)
    return 0


def write(checkpoint: Path, file: Path) -> None:
    """Write the folder's weights in the precision they have; whole or not at all.

    Raises BundleError where the folder lacks a file, SettingError where `file` is not to be
    written, ExportError for another kind of model.
    """
    from safetensors.torch import save_file

    if file.suffix != ".safetensors":
        raise SettingError(f"{file}: give a name that ends in .safetensors")
    if file.exists():
        raise SettingError(f"{file} exists; remove it or choose another file")
    kind = read_json(checkpoint / "model_index.json", "give a diffusers folder")["_class_name"]
    if kind != "StableDiffusionPipeline":
        raise ExportError(f"{checkpoint}: a {kind}; only Stable Diffusion 1 is written as one file")
    weights = state(checkpoint)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        save_file(weights, part, metadata={"format": "pt"})


def state(checkpoint: Path) -> dict[str, Any]:
    """Name in the original layout -> tensor; the VAE's attention becomes 1x1 convolutions."""
    from safetensors.torch import load_file

    from pleinair.export import compvis

    found = {}
    for part, prefix in (("unet", "model.diffusion_model."), ("vae", "first_stage_model.")):
        config = read_json(checkpoint / part / "config.json")
        weights = load_file(checkpoint / part / "diffusion_pytorch_model.safetensors")
        for key, value in weights.items():
            name = compvis.KEY[part](key, config)
            turned = part == "vae" and ".attentions." in key and value.ndim == 2
            found[prefix + name] = value[:, :, None, None] if turned else value
    for key, value in load_file(checkpoint / "text_encoder" / "model.safetensors").items():
        bare = key.removeprefix("text_model.")
        found[f"cond_stage_model.transformer.text_model.{bare}"] = value
    return {name: value.contiguous() for name, value in found.items()}
