"""A sub-model that lies alone: the VAE or text encoder that a checkpoint lacks, another UNet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError

from . import compvis, families, tokenizer
from .families.original import VAE
from .reading import SUFFIXES, State, read_checkpoint
from .source import Checkpoint, read
from .weights import find_weights, read_weights


@dataclass
class Part:
    """One sub-model with its config. `tokenizer` is its tokenizer's folder where it brings one."""

    name: str
    config: dict[str, Any]
    weights: State
    tokenizer: Path | None = None


def open_part(submodel: str, path: Path, checkpoint: Checkpoint) -> Part:
    """Open a `vae`, a `text_encoder` or a `unet`.

    Args:
        path: a folder with its config.json and weights, a whole diffusers folder, or a file: in
            CompVis's layout, alone or in a whole checkpoint, or in diffusers' layout, with its
            config.json beside it or without. A UNet's is in diffusers' layout.
        checkpoint: whose part it is to be; it says what a lone file does not.

    Raises `SourceError` when there is no such sub-model, or it cannot be read safely.
    """
    if path.is_dir():
        return _from_folder(submodel, path)
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        raise SourceError(
            f"{path} is neither a folder nor a {', '.join(sorted(SUFFIXES))} file to take the "
            f"{submodel} from"
        )
    if (path.parent / "config.json").is_file() and path in find_weights(path.parent):
        return _from_folder(submodel, path.parent)
    state = read_checkpoint(path)[0]
    try:
        if submodel == "unet":
            return Part(path.name, checkpoint.config("unet"), state)
        latents = checkpoint.latents
        return _vae(path, state, latents()) if submodel == "vae" else _text(path, state)
    except KeyError as error:
        raise SourceError(
            f"{path} holds no {submodel}, or lacks its {error.args[0]}; is it the right file?"
        ) from error


def _from_folder(submodel: str, path: Path) -> Part:
    folder = path / submodel if (path / submodel).is_dir() else path
    beside = folder.parent / "tokenizer"
    return Part(
        folder.resolve().name if folder == path else f"{path.resolve().name}/{submodel}",
        read(folder / "config.json"),
        read_weights(find_weights(folder)),
        beside if submodel == "text_encoder" and beside.is_dir() else None,
    )


def _vae(path: Path, state: State, latents: dict[str, Any]) -> Part:
    part = _without_prefix(state, (VAE,))
    part = {key: v for key, v in part.items() if not key.startswith(("loss.", "model_ema."))}
    levels = {key.split(".")[2] for key in part if key.startswith("encoder.down_blocks.")}
    shape = {"block_out_channels": [0] * len(levels)}
    # Only to read the shapes; weights under diffusers' names need no others.
    named = {compvis.vae_key(key, shape): v for key, v in part.items()} if levels else part
    config = compvis.infer("vae", named) | latents
    if not levels:
        part = compvis.renamed("vae", part, config, "", str(path))
    return Part(path.name, config, part)


def _text(path: Path, state: State) -> Part:
    part = _without_prefix(state, families.prefixes("text_encoder"))
    part = {k: v for k, v in part.items() if not k.endswith(("logit_scale", "attn_mask"))}
    config = compvis.infer("text_encoder", part, penultimate=True)
    return Part(path.name, config, compvis.renamed("text_encoder", part, config, "", str(path)))


def _without_prefix(state: State, prefixes: tuple[str, ...]) -> State:
    """Return what is under the first of `prefixes` that occurs; all of it where none does."""
    for prefix in prefixes:
        found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if found:
            return found
    return dict(state)


class Completed:
    """A checkpoint whose VAE, text encoder or UNet is another's."""

    def __init__(self, checkpoint: Checkpoint, parts: dict[str, Part]) -> None:
        self._checkpoint = checkpoint
        self._parts = parts
        self.record = checkpoint.record | {name: part.name for name, part in parts.items()}

    def model_index(self) -> dict[str, Any]:
        """Return the checkpoint's, with the class of a VAE that is put in: large or tiny."""
        classes = {name: part.config.get("_class_name") for name, part in self._parts.items()}
        named = {name: ["diffusers", kind] for name, kind in classes.items() if kind}
        return self._checkpoint.model_index() | named

    def scheduler(self, name: str = "scheduler") -> dict[str, Any]:
        return self._checkpoint.scheduler(name)

    def preprocessor(self) -> dict[str, Any] | None:
        return self._checkpoint.preprocessor()

    def latents(self) -> dict[str, Any]:
        return self._checkpoint.latents()

    def recommended(self) -> dict[str, Any] | None:
        return self._checkpoint.recommended()

    def config(self, submodel: str) -> dict[str, Any]:
        part = self._parts.get(submodel)
        return part.config if part else self._checkpoint.config(submodel)

    def weights(self, submodel: str) -> State:
        part = self._parts.get(submodel)
        if part is None:
            return self._checkpoint.weights(submodel)
        state, part.weights = part.weights, {}
        return state

    def write_tokenizer(self, target: Path) -> None:
        part = self._parts.get("text_encoder")
        if part is None or target.name != "tokenizer":
            self._checkpoint.write_tokenizer(target)
        elif part.tokenizer:
            tokenizer.copy(part.tokenizer, target)
        else:
            tokenizer.require_clip(part.config, part.name)
            self._checkpoint.write_tokenizer(target)
