"""What an export is to do with a checkpoint: its networks, their configs, their sizes."""

from pathlib import Path
from typing import Any, Protocol

import torch

from pleinair.runtime.adapters import lora as lora_files
from pleinair.runtime.errors import BundleError, SourceError
from pleinair.runtime.families import distillation
from pleinair.runtime.families.distillation import AUTO, Distillation
from pleinair.runtime.model import catalog
from pleinair.runtime.model.latent_space import LatentSpace

from . import architecture, configs, families, lora, manifest, solver
from .architecture import Config
from .families.beside import SAFETY_CHECKER, TINY_VAE
from .families.family import ABSENT, SubModel, Tokenizer
from .reading import State
from .request import Request
from .solver import Solver
from .source import Checkpoint
from .tiny_vae import open_tiny_vae

# Steps from which on a model is none of few.
_MANY = 10


class Origin(Protocol):
    """What a network is read from: a checkpoint, or a folder of its own."""

    def config(self, submodel: str) -> Config: ...

    def weights(self, submodel: str) -> State: ...


class Plan:
    """One checkpoint, with what is asked of it.

    Raises `SourceError` where the two do not fit each other, `AdapterError` for LoRA files, before
    any weight is loaded.
    """

    def __init__(self, checkpoint: Checkpoint, request: Request) -> None:
        self.checkpoint = checkpoint
        self.request = request
        self.name: str = checkpoint.record["name"]
        self.index = checkpoint.model_index()
        self.family = families.of(self.index, self.name)
        self.schedulers = {name: checkpoint.scheduler(name) for name in self.family.schedulers}
        self.loras = [lora_files.opened(named) for named in request.loras]
        self.distillation = self._distilled()
        self._choose_solver()
        for name, config in self.schedulers.items():
            solver.require_usable(config, f"{self.name}/{name}/scheduler_config.json")
        self.submodels: dict[str, SubModel] = self.family.present(self.index)
        self.origins: dict[str, Origin] = dict.fromkeys(self.submodels, checkpoint)
        own = list(self.submodels)
        self.preprocessor = checkpoint.preprocessor() if request.safety_checker else None
        if self.preprocessor is not None:
            self._add("safety_checker", SAFETY_CHECKER, checkpoint)
        self.tiny_vae = None if request.tiny_vae is None else open_tiny_vae(request.tiny_vae)
        if self.tiny_vae is not None:
            self.tiny_vae.require_fit(checkpoint.config("vae"))
            self._add("tiny_vae", TINY_VAE, self.tiny_vae)
        self.configs = {name: origin.config(name) for name, origin in self.origins.items()}
        self._check_configs()
        self.family.complete(self.configs, self.index, self.name)
        skeletons = {name: self.skeleton(name) for name in self.submodels}
        self.sizes = {name: architecture.count_parameters(one) for name, one in skeletons.items()}
        self.changes = lora.planned(self.loras, {name: skeletons[name] for name in own})

    def _check_configs(self) -> None:
        for name, submodel in self.submodels.items():
            where = f"{self.name}/{name}/config.json"
            configs.check(submodel.class_name, self.configs[name], where)
            if name == "vae":
                LatentSpace.of(self.configs[name], where=where, error=SourceError)

    def _distilled(self) -> Distillation | None:
        """How the merged LoRA files, or the checkpoint, were distilled to few steps."""
        kind, config = self.request.few_steps, self.schedulers[self.family.schedulers[0]]
        if kind not in (None, AUTO):
            return distillation.of_kind(kind, self.loras, self.name).fitting(config)
        found = distillation.among(self.loras, config)
        if kind == AUTO and found is None and not self._takes_few_steps(config):
            raise SourceError(
                f"{self.name}: neither the checkpoint nor a LoRA file says by its name that it is "
                "distilled to few steps; merge one with --lora, or say its kind: --few-steps "
                f"{', '.join(distillation.KINDS)}"
            )
        return found

    def _takes_few_steps(self, config: Config) -> bool:
        """Whether the checkpoint itself is one of few steps."""
        steps = (self._known() or {}).get("steps")
        return config.get("_class_name") == "LCMScheduler" or (steps or _MANY) < _MANY

    def _choose_solver(self) -> None:
        """That which is asked for, else that of the distillation."""
        asked, distilled = self.request.solver, self.distillation
        chosen = asked
        if distilled is not None:
            spacing = asked.timestep_spacing or distilled.timestep_spacing
            chosen = Solver(asked.name or distilled.scheduler, spacing)
        if chosen != Solver():
            name = self.family.schedulers[0]
            self.schedulers[name] = chosen.config(self.schedulers[name])
            self.index[name] = ["diffusers", self.schedulers[name]["_class_name"]]

    def _add(self, name: str, submodel: SubModel, origin: Origin) -> None:
        self.submodels[name] = submodel
        self.origins[name] = origin

    def skeleton(self, submodel: str) -> torch.nn.Module:
        """Build a network without its weights."""
        cls, config = self.submodels[submodel].cls, self.configs[submodel]
        return architecture.build(cls, config, f"{self.name}/{submodel}")

    def record(self) -> dict[str, Any]:
        """Where the folder comes from, for the manifest."""
        merged = {"loras": lora.record(self.loras)} if self.loras else {}
        tiny = {"tiny_vae": self.tiny_vae.record} if self.tiny_vae else {}
        return self.checkpoint.record | merged | tiny

    def recommended(self) -> dict[str, Any] | None:
        """What the folder is best painted with; None where nobody knows."""
        stated = dict(self._known() or {})
        if self.distillation is not None:
            entry = catalog.known(self.name)
            stated = {"size": entry.size} if entry else {}
            stated |= self.distillation.stated(self.request.solver.name)
        if self.request.few_steps:
            stated["profile"] = "balanced"
            if self.tiny_vae is not None:
                stated["vae"] = "tiny"
        return stated or None

    def _known(self) -> dict[str, Any] | None:
        """What the source's authors recommend, where the catalog knows it.

        None also for a source that is given LCM's solver: a merged LCM-LoRA makes it another model.
        """
        if self.request.solver == Solver() and (stated := self.checkpoint.recommended()):
            return stated
        entry = catalog.known(self.name)
        if entry is None or not catalog.is_still(entry, self.schedulers[self.family.schedulers[0]]):
            return None
        recommended: dict[str, Any] = catalog.recommendation(entry)
        if self.request.solver.name is not None:
            recommended.pop("scheduler", None)  # the folder names the one that was asked for
        return recommended

    def bytes_needed(self) -> int:
        """Room for the finished folder, and for the largest graph once more while it is made."""
        stored = sum(self.sizes.values()) * (2 if self.request.half else 4)
        passing = max(self.sizes.values()) * 4
        return int(stored * len(self.request.formats) * 1.05) + passing + 16_000_000

    def write_configs(self, target: Path) -> None:
        """Write into `target` all that is no graph, and no graph's config."""
        # Not named even where its graph is there: optimum takes a name for PyTorch's weights.
        dropped = ["safety_checker"]
        if self.preprocessor is None:
            dropped.append("feature_extractor")
        else:
            file = target / "feature_extractor" / "preprocessor_config.json"
            manifest.write_json(file, self.preprocessor)
        index = {key: value for key, value in self.index.items() if key != "_name_or_path"}
        index |= {name: ABSENT for name in dropped if name in index}
        manifest.write_json(target / "model_index.json", index | dict(self.family.settings))
        for name, config in self.schedulers.items():
            manifest.write_json(target / name / "scheduler_config.json", config)
        for name, submodel in self.submodels.items():
            if submodel.tokenizer is not None:
                self._write_tokenizer(target, submodel.tokenizer, name)

    def _write_tokenizer(self, target: Path, tokenizer: Tokenizer, encoder: str) -> None:
        folder = target / tokenizer.folder
        self.checkpoint.write_tokenizer(folder)
        try:
            origin = Path(self.name, encoder, "config.json")
            tokenizer.check(folder, self.configs[encoder], origin)
        except BundleError as error:
            raise SourceError(str(error).replace(str(target), self.name)) from error
        tokenizer.complete(folder, "openvino" in self.request.formats)
