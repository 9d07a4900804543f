"""One `.safetensors` or `.ckpt` file in the original CompVis layout of Stable Diffusion 1.

The file has no configs: the architecture is read from the tensors' shapes (compvis.py), and the
noise schedule is the one of every Stable Diffusion 1. A missing or unexpected key is named as it
stands in the file.
"""

import re
from pathlib import Path
from typing import Any

import torch

from pleinair.runtime.errors import SourceError

from . import architecture, compvis, tokenizer
from .weights import State, read_weights, some

_PREFIX = {
    "text_encoder": "cond_stage_model.transformer.",
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
}

# What training leaves in a checkpoint beside the three networks, and inference does without.
_LEFT_OVER = re.compile(
    r"(model_ema|embedding_manager|first_stage_model\.loss|model\.model_ema)\."
    r"|betas$|alphas_cumprod|sqrt_|log_one_minus|posterior_|lvlb_weights$|logvar$|scale_factor$"
    r"|cond_stage_model\.logit_scale$|cond_stage_model\.transformer\.(text_model\.)?"
    r"embeddings\.position_ids$"
)

_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}

_MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


class SingleFile:
    """A checkpoint of `CompVis/stable-diffusion`'s `txt2img.py`, and of the web interfaces.

    Raises `SourceError` when the file cannot be read safely, or is of another architecture.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in {".safetensors", ".ckpt"}:
            raise SourceError(f"{path} is neither a .safetensors nor a .ckpt file")
        self.path = path
        self.record = {"kind": "file", "name": path.name}
        self._parts = self._split(read_weights([path]))
        self._configs = {submodel: self._infer(submodel) for submodel in _PREFIX}

    def _split(self, state: State) -> dict[str, State]:
        """Part the state dict by network, without the prefixes."""
        self._refuse_relatives(state)
        parts: dict[str, State] = {submodel: {} for submodel in _PREFIX}
        strangers = []
        for key, value in state.items():
            owner = next((sub for sub, prefix in _PREFIX.items() if key.startswith(prefix)), None)
            if _LEFT_OVER.match(key):
                continue
            if owner is None:
                strangers.append(key)
            else:
                parts[owner][key.removeprefix(_PREFIX[owner])] = value
        if strangers:
            raise SourceError(f"{self.path}: no place in Stable Diffusion 1 for {some(strangers)}")
        return parts

    def _refuse_relatives(self, state: State) -> None:
        """Name the known layouts that are not Stable Diffusion 1, with what to do."""
        for mark, name in (
            ("conditioner.embedders.", "Stable Diffusion XL, which is not supported"),
            ("cond_stage_model.model.", "Stable Diffusion 2; export its diffusers folder instead"),
            ("control_model.", "a ControlNet, not a whole checkpoint"),
            ("lora_", "a LoRA, not a whole checkpoint"),
        ):
            if any(key.startswith(mark) for key in state):
                raise SourceError(f"{self.path} is {name}")
        for submodel, prefix in _PREFIX.items():
            if not any(key.startswith(prefix) for key in state):
                raise SourceError(
                    f"{self.path} has no {submodel} (no key begins with {prefix}); a whole "
                    "Stable Diffusion 1 checkpoint in the original layout is needed"
                )

    def model_index(self) -> dict[str, Any]:
        return dict(_MODEL_INDEX)

    def preprocessor(self) -> None:
        return None

    def scheduler(self) -> dict[str, Any]:
        return dict(_SCHEDULER)

    def config(self, submodel: str) -> dict[str, Any]:
        return self._configs[submodel]

    def _infer(self, submodel: str) -> dict[str, Any]:
        try:
            return compvis.INFER[submodel](self._parts[submodel])
        except KeyError as error:
            raise SourceError(
                f"{self.path} lacks {_PREFIX[submodel]}{error.args[0]}, and without it the shape "
                f"of its {submodel} is unknown"
            ) from error

    def weights(self, submodel: str) -> State:
        """Hand over one network's weights under diffusers' names; they are not kept here."""
        part, self._parts[submodel] = self._parts[submodel], {}
        if submodel == "text_encoder":
            return part  # it is transformers' own module, under its own names
        config = self._configs[submodel]
        module = architecture.build(submodel, config, str(self.path))
        renamed: State = {}
        missing = []
        for key, target in module.state_dict().items():
            theirs = compvis.KEY[submodel](key, config)
            if theirs in part:
                renamed[key] = _without_kernel(part.pop(theirs), target)
            else:
                missing.append(_PREFIX[submodel] + theirs)
        if missing:
            raise SourceError(f"{self.path} lacks {some(missing)}")
        if part:
            strangers = [_PREFIX[submodel] + key for key in part]
            raise SourceError(f"{self.path}: no place in its {submodel} for {some(strangers)}")
        return renamed

    def write_tokenizer(self, target: Path) -> None:
        rows = self._configs["text_encoder"]["vocab_size"]
        if rows != tokenizer.CLIP_TOKENS:
            raise SourceError(
                f"{self.path} has an embedding for {rows} tokens, and CLIP's vocabulary has "
                f"{tokenizer.CLIP_TOKENS}; export a diffusers folder, which brings its tokenizer"
            )
        tokenizer.write_clip(target)


def _without_kernel(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Turn a 1x1 convolution, as CompVis wrote attention, into diffusers' matrix."""
    if value.ndim == 4 and target.ndim == 2 and value.shape[2:] == (1, 1):
        return value[:, :, 0, 0]
    return value
