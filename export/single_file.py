"""One `.safetensors` or `.ckpt` file in the original CompVis layout, as the web interfaces use it.

The file has no configs: what it is, and its architecture, is read from the names and shapes of its
tensors (families/, compvis.py). A missing or unexpected key is named as it stands in the file.
"""

import logging
import re
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError

from . import compvis, ema, families, tokenizer
from .families.family import ABSENT
from .families.original import UNET
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

# Stable Diffusion 2's first base model says its step of training; those at 768 pixels say others.
_BASE_STEP = 875_000

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
        self.family, self.original = families.detect(state)
        self._parts = self._split(state)
        self._configs = {name: self._infer(name) for name, part in self._parts.items() if part}
        self._channels = self._configs["unet"]["in_channels"]
        self._task = self.original.tasks.get(self._channels)
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
        prefixes = self.original.prefixes
        parts: dict[str, State] = {submodel: {} for submodel in prefixes}
        strangers: list[str] = []
        loras: list[str] = []
        for key, value in state.items():
            owner = next((sub for sub, prefix in prefixes.items() if key.startswith(prefix)), None)
            if _LEFT_OVER.match(key):
                continue
            if owner is not None:
                parts[owner][key.removeprefix(prefixes[owner])] = value
            else:
                (loras if _LORA.match(key) else strangers).append(key)
        if strangers:
            raise SourceError(
                f"{self.path}: no place in {self.original.name} for {some(strangers)}"
            )
        if loras:
            _log.info("%s: left out an unmerged LoRA, %s", self.path, some(loras))
        return parts

    def _infer(self, submodel: str) -> dict[str, Any]:
        try:
            config = compvis.infer(submodel, self._parts[submodel], self.original.penultimate)
        except KeyError as error:
            raise SourceError(
                f"{self.path} lacks {self.original.prefixes[submodel]}{error.args[0]}, and without "
                f"it the shape of its {submodel} is unknown"
            ) from error
        if submodel == "vae":
            config["scaling_factor"] = self.original.scaling_factor
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
        if self._task is None:
            return "epsilon"
        if self._task.remark:
            _log.info(self._task.remark, self.path)
        return self._task.prediction_type

    def model_index(self) -> dict[str, Any]:
        """Return the model_index.json of diffusers' pipeline of this kind.

        Raises `SourceError` when its UNet takes as many channels as none of them.
        """
        if self._task is None:
            raise SourceError(
                f"{self.path}: a UNet of {self._channels} channels; {self.original.name} has "
                f"{', '.join(map(str, self.original.tasks))}"
            )
        schedulers = {name: self.scheduler(name) for name in self.family.schedulers}
        return {
            "_class_name": self._task.pipeline,
            "feature_extractor": ABSENT,
            **{name: ["diffusers", config["_class_name"]] for name, config in schedulers.items()},
            **self._networks(),
            **self.original.settings,
        }

    def _networks(self) -> dict[str, list[Any]]:
        """What the index says of each network, and of its tokenizer."""
        index: dict[str, list[Any]] = {}
        for name, kind in self.family.submodels.items():
            is_there = name in self.original.prefixes
            index[name] = [kind.library, kind.class_name] if is_there else ABSENT
            if kind.tokenizer is not None:
                clip = ["transformers", "CLIPTokenizer"]
                index[kind.tokenizer.folder] = clip if is_there else ABSENT
        return index

    def scheduler(self, name: str = "scheduler") -> dict[str, Any]:
        config = self.original.schedulers(self._prediction_type)[name]
        if name != self.family.schedulers[0]:
            return dict(config)
        zero_snr = {"rescale_betas_zero_snr": True} if "ztsnr" in self._marks else {}
        return config | {"prediction_type": self._prediction_type} | zero_snr

    def preprocessor(self) -> None:
        return None

    def scaling_factor(self) -> float:
        return self.original.scaling_factor

    def config(self, submodel: str) -> dict[str, Any]:
        """Return the config of a sub-model; `SourceError` when the file has none of its weights."""
        if submodel not in self._configs:
            prefix = self.original.prefixes.get(submodel, "")
            option = {"vae": "--vae", "text_encoder": "--text-encoder"}.get(submodel)
            add = f"add one with {option} FILE_OR_FOLDER" if option else "a whole one is needed"
            raise SourceError(f"{self.path} has no {submodel} (no key begins with {prefix}); {add}")
        config, size = self._configs[submodel], self.original.size(self._prediction_type)
        if submodel == "unet":
            return config | {"sample_size": size // 8} | self.original.unet(self._configs)
        return config | {"sample_size": size} if submodel == "vae" else config

    def weights(self, submodel: str) -> State:
        """Hand over one network's weights under diffusers' names; they are not kept here."""
        part, self._parts[submodel] = self._parts[submodel], {}
        config = self.config(submodel)
        prefix = self.original.prefixes[submodel]
        return compvis.renamed(submodel, part, config, prefix, str(self.path))

    def write_tokenizer(self, target: Path) -> None:
        """Write CLIP's tokenizer; OpenCLIP's differs in what it pads with, "!" (id 0)."""
        owner, _ = self.family.tokenizer(target.name)
        tokenizer.require_clip(self._configs.get(owner, {}), str(self.path))
        is_open_clip = self.original.prefixes[owner].endswith(".model.")
        tokenizer.write_clip(target, pad_token="!" if is_open_clip else tokenizer.END)
