"""Saving pictures: whole or not at all, never over another file, with how they were made."""

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import SettingError

# Text for people and the usual readers, JSON for us.
_TEXT_KEY = "parameters"
_JSON_KEY = "pleinair"
# A large picture's worth of bytes.
_ROOM = 4 << 20


def save(image: Image.Image, path: Path, settings: Mapping[str, Any] | None = None) -> Path:
    """Write a picture to a path that must not exist yet; PNG carries the settings as text.

    Written beside the target, synced, then published under its name in one step.
    Raises SettingError where the file exists, the format is unknown or the disk refuses.
    """
    info = _png_text(settings) if settings and path.suffix.lower() == ".png" else None
    extra = {"pnginfo": info} if info else {}
    if path.suffix.lower() not in Image.registered_extensions():
        raise SettingError(f"{path}: unknown picture format; end the name in .png, .jpg or .webp")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            image.save(file, format=Image.registered_extensions()[path.suffix.lower()], **extra)
            file.flush()
            os.fsync(file.fileno())
        _publish(part, path)
    except FileExistsError:
        raise SettingError(f"{path}: exists already; choose another name") from None
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return path


def check_target(path: Path) -> None:
    """Raise the SettingError that saving there would end in, before the work for it is done."""
    if path.suffix.lower() not in Image.registered_extensions():
        raise SettingError(f"{path}: unknown picture format; end the name in .png, .jpg or .webp")
    if path.exists():
        raise SettingError(f"{path}: exists already; choose another name")
    trial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"\0" * _ROOM)  # a full disk says so here
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()


def save_numbered(
    image: Image.Image,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    prefix: str = "",
    digits: int = 5,
) -> Path:
    """Save as the next free `<prefix>00000.png` of a folder, and return that path."""
    while True:
        path = next_numbered(folder, prefix, digits)
        try:
            return save(image, path, settings)
        except SettingError:
            if not path.exists():  # another process may have taken the number meanwhile
                raise


def next_numbered(folder: Path, prefix: str = "", digits: int = 5) -> Path:
    """The first name after all numbered ones that stand in the folder."""
    return folder / f"{prefix}{_next_number(folder, prefix):0{digits}}.png"


def _next_number(folder: Path, prefix: str) -> int:
    stems = (file.stem for file in folder.glob(f"{prefix}*")) if folder.is_dir() else ()
    numbers = (stem[len(prefix) :] for stem in stems)
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def _publish(part: Path, path: Path) -> None:
    """Give a finished file its name; FileExistsError where the name is taken."""
    try:
        os.link(part, path)  # atomic, and refuses to replace
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system: the narrowest window that is left.
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(part, path)


def _png_text(settings: Mapping[str, Any]) -> PngInfo:
    info = PngInfo()
    info.add_text(_TEXT_KEY, parameters_text(settings))
    info.add_text(_JSON_KEY, json.dumps(dict(settings), ensure_ascii=False))
    return info


def parameters_text(settings: Mapping[str, Any]) -> str:
    """The settings as the web interfaces write them under `parameters`.

    The prompt, then `Negative prompt: …`, then `Steps: 20, Sampler: …, CFG scale: …, Seed: …`.
    """
    lines = [str(settings.get("prompt", ""))]
    if settings.get("negative_prompt"):
        lines.append(f"Negative prompt: {settings['negative_prompt']}")
    fields = {
        "Steps": settings.get("num_inference_steps"),
        "Sampler": settings.get("scheduler"),
        "CFG scale": settings.get("guidance_scale"),
        "Seed": settings.get("seed"),
        "Size": f"{settings.get('width')}x{settings.get('height')}",
        "Model": settings.get("model"),
        "Eta": settings.get("eta") or None,
        "Clip skip": settings.get("clip_skip"),
        "Version": settings.get("version"),
    }
    lines.append(
        ", ".join(f"{name}: {value}" for name, value in fields.items() if value is not None)
    )
    return "\n".join(lines)
