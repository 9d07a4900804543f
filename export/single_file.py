"""One `.safetensors` or `.ckpt` file in the original CompVis layout, as the web interfaces use it.

The file has no configs: what it is, and its architecture, is read from the names and shapes of its
tensors (family.py, compvis.py). A missing or unexpected key is named as it stands in the file.
"""

import logging
import re
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError

from . import compvis, ema, family, tokenizer
from .family import UNET, Family
from .weights import State, read_checkpoint, some

_log = logging.getLogger("pleinair.export")

# What training and merging leave in a checkpoint beside the networks, and inference does without.
_LEFT_OVER = re.compile(
    r"(model_ema|model\.model_ema|embedding_manager|low_scale_model|denoiser)\."
    r"|first_stage_model\.(loss|model_ema)\."
    r"|(log_)?betas$|alphas_cumprod|sqrt_|log_one_minus|posterior_|lvlb_weights$|logvar$|"
    r"scale_factor$"
    r"|(cond_stage_model|conditioner\.embedders\.\d+)\.((transformer|model)\.)?"
    r"(logit_scale$|attn_mask$|vision_model\.|visual_projection\.|(text_model\.)?"
    r"embeddings\.position_ids$)"
    r"|cond_stage_model\.(transformer\.)?text_projection(\.weight)?$"
    r"|(v_pred|ztsnr|global_step|iteration)$"
)
_LORA = re.compile(r"lora_(unet|te\d?|prior)_|(unet|text_encoder)\..*\.lora")

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
_XL_SCHEDULER = _SCHEDULER | {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
# The upscaler is the one model that was trained on another schedule.
_UPSCALER_SCHEDULER = _SCHEDULER | {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
}
# Of the small picture beside its latents [CompVis' x4-upscaling.yaml].
_LOW_RES_SCHEDULER = _SCHEDULER | {
    "_class_name": "DDPMScheduler",
    "beta_start": 0.0001,
    "beta_end": 0.02,
}
_MAX_NOISE_LEVEL = 350

# Stable Diffusion 2's first base model says its step of training; those at 768 pixels say others.
_BASE_STEP = 875_000

_NONE = [None, None]

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


class SingleFile:
    """A checkpoint of `CompVis/stable-diffusion`'s `txt2img.py`, and of the web interfaces.

    ema: paint with the running averages of the UNet's weights; a file with nothing but averages
        is taken by them anyhow.
    prediction_type: "epsilon", "v_prediction" or "sample". By default what the file says, and
        where it says nothing what its kind is trained for: of Stable Diffusion 2 that is
        "v_prediction" for the 768 models and "epsilon" for the base ones, which no tensor tells
        apart. The former is assumed, as diffusers does, and one line is logged.

    Raises `SourceError` when the file cannot be read safely, or is of another architecture.
    """

    def __init__(self, path: Path, ema: bool = False, prediction_type: str | None = None) -> None:
        if path.suffix not in {".safetensors", ".ckpt"}:
            raise SourceError(f"{path} is neither a .safetensors nor a .ckpt file")
        if prediction_type not in (None, *PREDICTION_TYPES):
            raise SourceError(
                f"prediction type {prediction_type!r} is not one of {', '.join(PREDICTION_TYPES)}"
            )
        self.path = path
        self.record = {"kind": "file", "name": path.name}
        state, self._said = read_checkpoint(path)
        self._marks = {"v_pred", "ztsnr"} & state.keys()
        state = self._with_unet(state, ema)
        self.family: Family = family.detect(state)
        self._parts = self._split(state)
        self._configs = {name: self._infer(name) for name, part in self._parts.items() if part}
        self._channels = self._configs["unet"]["in_channels"]
        self._prediction_type = prediction_type or self._said_prediction() or self._assumed()

    def _with_unet(self, state: State, wanted: bool) -> State:
        """Put the running averages in the place of the UNet, where asked or where it is not."""
        is_whole = any(key.startswith(UNET) for key in state)
        averages = ema.unet(state)
        if wanted and not averages:
            raise SourceError(f"{self.path} has no running averages (model_ema.); leave --ema out")
        if averages and not is_whole:
            _log.info("%s holds only running averages (EMA) of its UNet; taking them", self.path)
        elif not is_whole:
            self._refuse_parts(state)
        if not averages or (is_whole and not wanted):
            return state
        rest = {key: value for key, value in state.items() if not key.startswith(UNET)}
        return rest | averages

    def _refuse_parts(self, state: State) -> None:
        """Say what a file without a UNet is."""
        for mark, name in (
            ("control_model.", "a ControlNet; export its diffusers folder or hub id instead"),
            ("lora_", "a LoRA, not a whole checkpoint; merge it with --lora"),
            ("first_stage_model.", "a VAE, not a whole checkpoint; add it with --vae"),
            ("encoder.down", "a VAE, not a whole checkpoint; add it with --vae"),
        ):
            if any(key.startswith(mark) for key in state):
                raise SourceError(f"{self.path} is {name}")
        raise SourceError(
            f"{self.path} has no unet (no key begins with {UNET}); a whole checkpoint in the "
            "original layout is needed"
        )

    def _split(self, state: State) -> dict[str, State]:
        """Part the state dict by network, without the prefixes."""
        prefixes = self.family.prefixes
        parts: dict[str, State] = {submodel: {} for submodel in prefixes}
        strangers, loras = [], []
        for key, value in state.items():
            owner = next((sub for sub, prefix in prefixes.items() if key.startswith(prefix)), None)
            if _LEFT_OVER.match(key):
                continue
            if owner is not None:
                parts[owner][key.removeprefix(prefixes[owner])] = value
            else:
                (loras if _LORA.match(key) else strangers).append(key)
        if strangers:
            raise SourceError(f"{self.path}: no place in {self.family.name} for {some(strangers)}")
        if loras:
            _log.info("%s: left out an unmerged LoRA, %s", self.path, some(loras))
        return parts

    def _infer(self, submodel: str) -> dict[str, Any]:
        # Version 2 was trained on the last layer but one of its text encoder; XL gets both.
        penultimate = self.family in (family.SD2, family.UPSCALER)
        try:
            config = compvis.infer(submodel, self._parts[submodel], penultimate)
        except KeyError as error:
            raise SourceError(
                f"{self.path} lacks {self.family.prefixes[submodel]}{error.args[0]}, and without "
                f"it the shape of its {submodel} is unknown"
            ) from error
        if submodel == "vae":
            config["scaling_factor"] = self.family.scaling_factor
        return config

    def _said_prediction(self) -> str | None:
        """What the file says of itself: webui's mark, or the metadata of the ModelSpec."""
        said = self._said.get("modelspec.prediction_type")
        if "v_pred" in self._marks or said == "v":
            return "v_prediction"
        if self._said.get("global_step") == _BASE_STEP:
            return "epsilon"
        return said if said in PREDICTION_TYPES else None

    def _assumed(self) -> str:
        if self.family is family.UPSCALER:
            return "v_prediction"
        if self.family is not family.SD2 or self._channels != 4:
            return "epsilon"
        _log.info(
            "%s is Stable Diffusion 2, taken for a 768 model (v_prediction); for a base model of "
            "512 pixels add --prediction-type epsilon",
            self.path,
        )
        return "v_prediction"

    def model_index(self) -> dict[str, Any]:
        """Return the model_index.json of diffusers' pipeline of this kind.

        Raises `SourceError` when its UNet takes as many channels as none of them.
        """
        if self._channels not in self.family.pipelines:
            raise SourceError(
                f"{self.path}: a UNet of {self._channels} channels; {self.family.name} has "
                f"{', '.join(map(str, self.family.pipelines))}"
            )
        index = {
            "_class_name": self.family.pipelines[self._channels],
            "feature_extractor": _NONE,
            "scheduler": ["diffusers", self.scheduler()["_class_name"]],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }
        if noising := self.low_res_scheduler():
            index["low_res_scheduler"] = ["diffusers", noising["_class_name"]]
            index["max_noise_level"] = _MAX_NOISE_LEVEL
        return index | self._text_index()

    def _text_index(self) -> dict[str, Any]:
        first = "text_encoder" in self.family.prefixes
        index: dict[str, Any] = {
            "text_encoder": ["transformers", "CLIPTextModel"] if first else _NONE,
            "tokenizer": ["transformers", "CLIPTokenizer"] if first else _NONE,
        }
        if "text_encoder_2" not in self.family.prefixes:
            return index | {"safety_checker": _NONE}
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
        aesthetic = {} if first else {"requires_aesthetics_score": True}
        return index | {"force_zeros_for_empty_prompt": first} | aesthetic

    def scheduler(self) -> dict[str, Any]:
        base = _SCHEDULER
        if self.family in (family.XL, family.REFINER):
            base = _XL_SCHEDULER
        elif self.family is family.UPSCALER:
            base = _UPSCALER_SCHEDULER
        elif self._prediction_type != "epsilon":  # as Stable Diffusion 2 is published
            base = _SCHEDULER | {"_class_name": "DDIMScheduler"}
        zero_snr = {"rescale_betas_zero_snr": True} if "ztsnr" in self._marks else {}
        return base | {"prediction_type": self._prediction_type} | zero_snr

    def preprocessor(self) -> None:
        return None

    def low_res_scheduler(self) -> dict[str, Any] | None:
        return dict(_LOW_RES_SCHEDULER) if self.family is family.UPSCALER else None

    def scaling_factor(self) -> float:
        return self.family.scaling_factor

    def config(self, submodel: str) -> dict[str, Any]:
        """Return the config of a sub-model; `SourceError` when the file has none of its weights."""
        if submodel not in self._configs:
            prefix = self.family.prefixes.get(submodel, "")
            option = {"vae": "--vae", "text_encoder": "--text-encoder"}.get(submodel)
            add = f"add one with {option} FILE_OR_FOLDER" if option else "a whole one is needed"
            raise SourceError(f"{self.path} has no {submodel} (no key begins with {prefix}); {add}")
        config = self._configs[submodel]
        if submodel == "unet":
            return config | {"sample_size": self._size() // 8} | self._time_ids()
        return config | {"sample_size": self._size()} if submodel == "vae" else config

    def _size(self) -> int:
        is_768 = self.family is family.SD2 and self._prediction_type == "v_prediction"
        return 768 if is_768 else self.family.size

    def _time_ids(self) -> dict[str, Any]:
        """Tell how wide XL's embedding of each size is: all are in one row, behind the prompt's."""
        pooled = self._configs.get("text_encoder_2")
        if pooled is None:
            return {}
        row = self._configs["unet"]["projection_class_embeddings_input_dim"]
        return {"addition_time_embed_dim": (row - pooled["projection_dim"]) // self.family.time_ids}

    def weights(self, submodel: str) -> State:
        """Hand over one network's weights under diffusers' names; they are not kept here."""
        part, self._parts[submodel] = self._parts[submodel], {}
        config = self.config(submodel)
        prefix = self.family.prefixes[submodel]
        return compvis.renamed(submodel, part, config, prefix, str(self.path))

    def write_tokenizer(self, target: Path) -> None:
        """Write CLIP's tokenizer; OpenCLIP's differs in what it pads with, "!" (id 0)."""
        owner = "text_encoder_2" if target.name == "tokenizer_2" else "text_encoder"
        prefix = self.family.prefixes[owner]
        tokenizer.require_clip(self._configs.get(owner, {}), str(self.path))
        is_open_clip = prefix.endswith(".model.")
        tokenizer.write_clip(target, pad_token="!" if is_open_clip else tokenizer.END)
