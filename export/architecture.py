"""Modules from configs: networks built by the name of their class, without their weights."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import torch

from pleinair.runtime.errors import SourceError, shown

from . import configs

Config = dict[str, Any]


def build(cls: str, config: Config, origin: str) -> torch.nn.Module:
    """Build a network on the meta device: shapes, but no memory yet.

    cls: the class by its full name, such as "diffusers.AutoencoderKL".
    config: its config.json. `origin` names it in errors.
    Raises `SourceError` where the installed library lacks the class, or the config is another's or
    describes no working model.
    """
    kind = _found(cls, origin)
    named = config.get("_class_name", kind.__name__)
    if named != kind.__name__:
        raise SourceError(f"{origin} is a {shown(named)}, and only {kind.__name__} can be exported")
    configs.check(kind.__name__, config, f"{origin}: config.json")
    try:
        with torch.device("meta"), quiet():
            if hasattr(kind, "config_class"):  # transformers
                module: torch.nn.Module = kind(kind.config_class.from_dict(config))
            else:
                module = kind.from_config(config)
            return module
    except Exception as error:  # the libraries fail in any way at a config made up by someone
        reason = shown(f"{type(error).__name__}: {error}", 300)
        raise SourceError(f"{origin}: its config describes no working model: {reason}") from error


def _found(cls: str, origin: str) -> Any:
    library, _, name = cls.rpartition(".")
    found = getattr(importlib.import_module(library), name, None)
    if found is None:
        package = library.partition(".")[0]
        raise SourceError(
            f"{origin}: the installed {package} has no {name}; install a newer one: "
            f"pip install --upgrade {package}"
        )
    return found


def published_config(module: Any, config: Config) -> Config:
    """Return the config.json to write: defaults spelled out, no paths of the machine it was on."""
    kept = _without_paths(config)
    if "_class_name" not in kept:  # transformers
        return kept
    spelled_out = {k: v for k, v in module.config.items() if not k.startswith("_")}
    return kept | spelled_out


def _without_paths(config: Config) -> Config:
    """CLIP's config holds those of its halves, each with the path it came from."""
    return {
        key: _without_paths(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key != "_name_or_path"
    }


def count_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' remarks on configs: what matters is checked by key and shape."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    levels = [(log, log.get_verbosity()) for log in (diffusers_log, transformers_log)]
    for log, _ in levels:
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, level in levels:
            log.set_verbosity(level)
