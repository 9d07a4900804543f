"""Which files of a repository are needed: a ready-made model's all, of a checkpoint some."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import SourceError
from ..files import read_json

INDEX = "model_index.json"

# Components that are a few small files. Every other class is a network's, with weights.
_SMALL = re.compile(r".*(Scheduler|Tokenizer(Fast)?|Processor(Fast)?|FeatureExtractor)")
# The one network that an export can do without, and what makes pictures ready for it.
_GUARD, _GUARD_INPUT = "safety_checker", "feature_extractor"
# What makes a folder one that Pleinair opens as it is: the graph of a denoiser, which diffusers
# calls unet or transformer, in optimum's two layouts or bes-dev's.
_GRAPH = re.compile(r"(unet|transformer)/(openvino_model\.xml|model\.onnx)|unet\.xml")
_TORCH = re.compile(
    r".*\.(safetensors|ckpt|pt|pth|msgpack|h5)|(.*/)?(diffusion_)?pytorch_model.*\.bin|"
    r".*\.index\.json"
)
# The weights of one of diffusers' models by itself.
_A_MODEL_S = re.compile(r"diffusion_pytorch_model\b")
_SINGLE_FILE = re.compile(r"[^/]+\.(safetensors|ckpt)")


def is_ready_made(files: Iterable[str]) -> bool:
    """Tell whether a folder with these files holds converted graphs."""
    return any(map(_GRAPH.fullmatch, files))


def ready_made(files: Iterable[str]) -> list[str]:
    """Return a ready-made model's files: all but hidden ones and PyTorch's weights beside them."""
    return [
        name
        for name in files
        if not _TORCH.fullmatch(name)
        and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    ]


def checkpoint(
    files: Sequence[str],
    repo_id: str,
    index: Mapping[str, Any],
    *,
    safety_checker: bool = True,
) -> list[str]:
    """Return those of a repository's files that an export reads: of each weight, one copy.

    index: what its model_index.json says: the components of which it names a class are there.
    safety_checker: take the one that is there, too.

    Raises `SourceError` where there is no diffusers folder, or no weights of one of its networks.
    """
    if INDEX not in files:
        top = [name for name in files if "/" not in name]
        if "config.json" in top and any(map(_A_MODEL_S.match, top)):  # a ControlNet's, or so
            return alone(files, repo_id)
        raise SourceError(
            f"{repo_id} has no model_index.json, so it is no diffusers folder; download its "
            ".safetensors or .ckpt file and pass the path, or: pleinair pull OWNER/NAME/FILE"
        )
    components = _components(index)
    if not safety_checker or not _inside(files, _GUARD):
        components = {k: v for k, v in components.items() if k not in (_GUARD, _GUARD_INPUT)}
    chosen = [INDEX]
    for name, kind in components.items():
        inside = _inside(files, name)
        if _SMALL.fullmatch(kind) is None:
            inside = ["config.json", *choose(inside, f"{repo_id}/{name}")]
        chosen += [f"{name}/{file}" for file in inside]
    return chosen


def read_index(path: Path) -> dict[str, Any]:
    """Read a model_index.json; raises `SourceError` where it is none."""
    return read_json(path, error=SourceError)


def _components(index: Mapping[str, Any]) -> dict[str, str]:
    """Component -> its class, of those that a checkpoint has: [library, class] in its index."""
    return {
        name: entry[1]
        for name, entry in index.items()
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)
    }


def _inside(files: Iterable[str], folder: str) -> list[str]:
    """The files in a folder, named from there."""
    start = f"{folder}/"
    return [name.removeprefix(start) for name in files if name.startswith(start)]


def alone(files: Iterable[str], repo_id: str) -> list[str]:
    """As `checkpoint`, where one sub-model is the whole repository."""
    return ["config.json", *choose([name for name in files if "/" not in name], repo_id)]


def is_single_file(name: str) -> bool:
    """Tell whether a file at the top of a repository may be a whole checkpoint."""
    return _SINGLE_FILE.fullmatch(name) is not None


def single_file(files: Iterable[str], repo_id: str, name: str | None) -> str:
    """Return the one checkpoint file of a repository, or that of this `name`.

    Raises `SourceError`, which lists what there is, where the choice is not clear.
    """
    found = [file for file in files if is_single_file(file)]
    if name is None and len(found) == 1:
        return found[0]
    if name in found:
        return str(name)
    if not found:
        raise SourceError(
            f"{repo_id} holds neither a model that Pleinair opens nor a checkpoint: no graphs of a "
            "UNet, no model_index.json, no .safetensors or .ckpt file"
        )
    if name is None:
        raise SourceError(
            f"{repo_id} holds several checkpoints; name one: "
            + ", ".join(f"{repo_id}/{file}" for file in found[:5])
        )
    raise SourceError(f"{repo_id} has no {name}; it has {', '.join(found[:5])}")


def choose(names: Iterable[str], where: str) -> list[str]:
    """Pick one set of weights out of the file `names` of a sub-model's folder.

    Preferred first: safetensors before pickles, full precision before half, one file before
    shards. Raises `SourceError`, which names `where`, when there are none or a shard is missing.
    """
    available = sorted(names)
    for suffix in ("safetensors", "bin"):
        for variant in ("", ".fp16"):
            for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
                single = f"{stem}{variant}.{suffix}"
                if single in available:
                    return [single]
                shards = _shards(available, stem, variant, suffix, where)
                if shards:
                    return shards
    raise SourceError(
        f"no weights in {where}: expected diffusion_pytorch_model.safetensors, "
        "model.safetensors or a .bin of that name"
    )


def _shards(names: list[str], stem: str, variant: str, suffix: str, where: str) -> list[str]:
    """Return `stem-00001-of-0000N.fp16.safetensors` and so on; the variant may precede the dash."""
    number = r"-\d+-of-(\d+)"
    dotted = re.escape(variant)
    pattern = re.compile(rf"{stem}(?:{dotted}{number}|{number}{dotted})\.{suffix}")
    found = [match for name in names if (match := pattern.fullmatch(name))]
    for match in found[:1]:
        total = int(match[1] or match[2])
        if len(found) != total:
            raise SourceError(f"{where} has {len(found)} of the {total} shards of {stem}{variant}")
    return [match[0] for match in found]
