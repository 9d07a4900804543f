"""One `.safetensors` or `.ckpt` file in the original CompVis layout, as the web interfaces use it.

The file has no configs: what it is, and its architecture, is read from the names and shapes of its
tensors (families/, compvis.py), how it was trained from what is said beside them (training.py). A
missing or unexpected key is named as it stands in the file.
"""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError

from . import compvis, families, sidecar, strangers, tokenizer, training
from . import ema as averages
from .families.family import ABSENT, Family
from .families.original import UNET, Original, Task
from .reading import SUFFIXES, State, read_checkpoint
from .training import PREDICTION_TYPES
from .weights import some

_log = logging.getLogger("pleinair.export")

# What training and merging leave in a checkpoint beside the networks, and inference does without.
_LEFT_OVER = re.compile(
    r"(model_ema|model\.model_ema|embedding_manager|low_scale_model|denoiser|sampler)\."
    r"|(optimizers?|optimizer_states|lr_schedulers?|loss|loss_fn|callbacks)\."
    r"|first_stage_model\.(loss|model_ema)\."
    r"|(log_)?betas$|alphas_cumprod|ddim_|sqrt_|log_one_minus|posterior_|lvlb_weights$|logvar$|"
    r"scale_factor$|sigmas$"
    r"|(cond_stage_model|conditioner\.embedders\.\d+)\.((transformer|model)\.)?"
    r"(logit_scale$|attn_mask$|vision_model\.|visual_projection\.|visual\.|(text_model\.)?"
    r"embeddings\.position_ids$)"
    r"|(cond_stage_model|conditioner\.embedders\.0)\.(transformer\.)?text_projection(\.weight)?$"
    r"|(global_step|iteration|epoch|step)$"
)
_LORA = re.compile(r"lora_(unet|te\d?|prior)_|(unet|text_encoder)\..*\.lora")

_OTHERS = sorted(SUFFIXES - {".safetensors", ".ckpt"})


class SingleFile:
    """A checkpoint of `CompVis/stable-diffusion`'s `txt2img.py`, and of the web interfaces.

    ema: paint with the running averages of the UNet's weights; a file with nothing but averages
        is taken by them anyhow.
    config: its `.yaml` of CompVis's kind, where not beside it under its name.
    prediction_type: "epsilon", "v_prediction" or "sample". By default what the file says, and
        where it says nothing what its kind is trained for: of Stable Diffusion 2 that is
        "v_prediction" for the 768 models and "epsilon" for the base ones, which no tensor tells
        apart. The former is assumed, as diffusers does, and one line is logged.

    Raises `SourceError` when the file cannot be read safely, or is of another architecture.
    """

    def __init__(
        self,
        path: Path,
        ema: bool = False,
        prediction_type: str | None = None,
        config: Path | None = None,
    ) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise SourceError(
                f"{path} is neither a .safetensors nor a .ckpt file (nor {', '.join(_OTHERS)})"
            )
        if prediction_type not in (None, *PREDICTION_TYPES):
            raise SourceError(
                f"prediction type {prediction_type!r} is not one of {', '.join(PREDICTION_TYPES)}"
            )
        self.path = path
        self.record = {"kind": "file", "name": path.name}
        state, said = read_checkpoint(path)
        whole = _has_unet(state) or bool(averages.unet(state))
        if (stranger := strangers.named(state, whole)) is not None:
            raise SourceError(f"{path} is {stranger}")
        marks = training.by_marks(state, said, path)
        table = {key: state[key] for key in ("alphas_cumprod",) if key in state}
        state = self._with_unet(state, ema)
        self.family, self.original = _kind(state, path)
        self._parts = self._split(state)
        self._penultimate = self.original.penultimate
        self._configs = {"unet": self._infer("unet")}
        beside = sidecar.read(path, self._configs["unet"], config)
        marks = marks.over(beside, path, "the config beside it")
        self._training = self._trained(marks, said, table)
        if self._training.penultimate is not None:
            self._penultimate = self.original.penultimate and self._training.penultimate
        self._configs = {name: self._infer(name) for name, part in self._parts.items() if part}
        self._task = self._of_channels()
        stated = prediction_type or self._training.prediction_type
        self._prediction_type = stated or self._assumed()
        self._require_sense()

    def _trained(
        self, marks: training.Training, said: dict[str, Any], table: State
    ) -> training.Training:
        """All that is said of the training: what comes first is followed."""
        found = marks.over(training.by_metadata(said, self.path), self.path, "its metadata")
        kind = self.original.schedulers("v_prediction")[self.family.schedulers[0]]
        found = found.over(training.by_schedule(table, kind, self.path), self.path, "its table")
        return found.over(training.by_name(self.path.stem, self.path), self.path, "its name")

    def _require_sense(self) -> None:
        """Raise `SourceError` for marks of another kind, and a schedule that cannot be solved."""
        said = self._training
        if said.latents is not None:
            channels = self._configs.get("vae", {}).get("latent_channels", 4)
            if not self.original.normed or {*map(len, said.latents)} != {channels}:
                raise SourceError(
                    f"{self.path}: edm_mean and edm_std are {channels} numbers of an XL model's "
                    f"latents (Playground v2.5); this is {self.original.name}"
                )
        self.scheduler()

    def _with_unet(self, state: State, wanted: bool) -> State:
        """Put the running averages in the place of the UNet, where asked or where it is not."""
        is_whole = _has_unet(state)
        averaged = averages.unet(state)
        if wanted and not averaged:
            raise SourceError(f"{self.path} has no running averages (model_ema.); leave --ema out")
        if averaged and not is_whole:
            _log.info("%s holds only running averages (EMA) of its UNet; taking them", self.path)
        elif not is_whole:
            raise SourceError(
                f"{self.path} has no unet (no key begins with {UNET}); a whole checkpoint in the "
                "original layout is needed"
            )
        if not averaged or (is_whole and not wanted):
            return state
        rest = {key: value for key, value in state.items() if not key.startswith(UNET)}
        return rest | averaged

    def _split(self, state: State) -> dict[str, State]:
        """Part the state dict by network, without the prefixes."""
        prefixes = self.original.prefixes
        parts: dict[str, State] = {submodel: {} for submodel in prefixes}
        unplaced: list[str] = []
        loras: list[str] = []
        for key, value in state.items():
            owner = next((sub for sub, prefix in prefixes.items() if key.startswith(prefix)), None)
            if _LEFT_OVER.match(key):
                continue
            if owner is not None:
                parts[owner][key.removeprefix(prefixes[owner])] = value
            else:
                (loras if _LORA.match(key) else unplaced).append(key)
        if unplaced:
            raise SourceError(f"{self.path}: no place in {self.original.name} for {some(unplaced)}")
        if loras:
            _log.info("%s: left out an unmerged LoRA, %s", self.path, some(loras))
        return parts | {"unet": compvis.unet_part(parts["unet"])}

    def _infer(self, submodel: str) -> dict[str, Any]:
        try:
            config = compvis.infer(submodel, self._parts[submodel], self._penultimate)
        except KeyError as error:
            raise SourceError(
                f"{self.path} lacks {self.original.prefixes[submodel]}{error.args[0]}, and without "
                f"it the shape of its {submodel} is unknown"
            ) from error
        except (ValueError, IndexError, AttributeError, ZeroDivisionError) as error:
            raise SourceError(
                f"{self.path}: the weights of its {submodel} are of no known shape ({error})"
            ) from error
        return config

    def _of_channels(self) -> Task | None:
        """What it is trained for; None where its UNet takes as many channels as no task does."""
        unet = self._configs["unet"]
        task: Task | None = self.original.tasks.get(unet["in_channels"])
        if task is not None and unet.get("time_cond_proj_dim") and task.guided is not None:
            return replace(task, pipeline=task.guided)
        return task

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
                f"{self.path}: a UNet of {self._configs['unet']['in_channels']} channels; "
                f"{self.original.name} has {', '.join(map(str, self.original.tasks))}"
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
        is_guided = self._configs["unet"].get("time_cond_proj_dim") is not None
        said = replace(self._training, few="lcm") if is_guided else self._training
        return training.scheduler(said, config, self._prediction_type, self.path)

    def preprocessor(self) -> None:
        return None

    def latents(self) -> dict[str, Any]:
        said = self._training
        factor = said.scaling_factor or self.original.scaling_factor
        if said.latents is None:
            return {"scaling_factor": factor}
        mean, std = said.latents
        return {"scaling_factor": factor, "latents_mean": list(mean), "latents_std": list(std)}

    def recommended(self) -> dict[str, Any] | None:
        """Of a model distilled to as many steps as its name says: those, without guidance."""
        said = self._training
        steps = said.steps or self.original.few_steps
        if said.few in (None, "lcm") or steps is None:
            return None
        return {"steps": steps, "guidance_scale": 0.0}

    def config(self, submodel: str) -> dict[str, Any]:
        """Return the config of a sub-model; `SourceError` when the file has none of its weights."""
        if submodel not in self._configs:
            raise SourceError(f"{self.path} {self._lacks(submodel)}")
        config = self._configs[submodel]
        size = self._training.size or self.original.size(self._prediction_type)
        if submodel == "unet":
            more = {"sample_size": size // 8} | self.original.unet(self._configs)
            return config | more | self._heads(config["block_out_channels"])
        if submodel == "vae":
            return config | {"sample_size": size} | self.latents()
        return config

    def _lacks(self, submodel: str) -> str:
        options = {"vae": "--vae", "text_encoder": "--text-encoder"}
        if self._configs.keys() == {"unet"}:
            lacking = [name for name in self.original.prefixes if name != "unet"]
            added = [f"{options[name]} FILE_OR_FOLDER" for name in lacking if name in options]
            way = f"add them with {' '.join(added)}"
            if len(added) != len(lacking):
                way = "get the whole checkpoint, or its diffusers folder"
            return f"is a UNet alone: it has no {' and no '.join(lacking)}; {way}"
        prefix = self.original.prefixes.get(submodel, "")
        option = options.get(submodel)
        add = f"add one with {option} FILE_OR_FOLDER" if option else "a whole one is needed"
        return f"has no {submodel} (no key begins with {prefix}); {add}"

    def _heads(self, widths: list[int]) -> dict[str, Any]:
        """As a config beside the file says it; diffusers' name means their number."""
        said = self._training
        if said.heads is not None:
            return {"attention_head_dim": said.heads}
        if said.head_width is not None:
            return {"attention_head_dim": [max(1, width // said.head_width) for width in widths]}
        return {}

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


def _has_unet(state: State) -> bool:
    return any(key.startswith(UNET) for key in state)


def _kind(state: State, path: Path) -> tuple[Family, Original]:
    try:
        return families.detect(state)
    except (IndexError, StopIteration) as error:
        raise SourceError(
            f"{path}: its UNet is of no kind that can be exported; {families.NAMES} are"
        ) from error
