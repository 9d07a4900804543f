"""What a program's text says of a picture, brought to our names."""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ...errors import SettingError
from ...files import parse_json
from .. import samplers

# Values that are as good as not said; for what we have no name for, 0 is one of them.
_NOTHING: tuple[object, ...] = (None, "", "None", "none", "False", False, [], {})
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


@dataclass
class Said:
    """How a picture was made, in one program's words.

    settings: by our names; values as the program wrote them, which may be text or of a wrong type.
    ignored: what else it says, in a few words each.
    typed: whether a number that stands as text is a mistake.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    typed: bool = False


def translated(
    stated: Mapping[str, Any], names: Mapping[str, str], silent: Collection[str] = ()
) -> Said:
    """Settings by the names that a program gives them.

    names: the program's name, in small letters and digits alone, -> ours. Four of ours stand for
        something else: `sampler` and `spacing` become the scheduler, `size` is width and height,
        `model` loses its folder and ending.
    silent: what says nothing of how the picture looks, such as its date.
    """
    said, sampler, spacing = Said(), "", ""
    for name, value in stated.items():
        ours = names.get(plain(name))
        if ours is None:
            if plain(name) not in silent and not _is_nothing(value) and value != 0:
                said.ignored.append(name)
        elif ours == "prompt" and value == "":
            said.settings[ours] = ""  # painted without one
        elif _is_nothing(value) or (ours == "guidance_rescale" and value == 0):
            continue
        elif ours == "sampler":
            sampler = str(value)
        elif ours == "spacing":
            spacing = str(value)
        elif ours == "size":
            said.settings.update(_sides(value))
        else:
            said.settings.setdefault(ours, _file(value) if ours == "model" else value)
    schedule(said, sampler, spacing)
    return said


def plain(name: str) -> str:
    """A name as `translated` compares it."""
    return re.sub(r"[^a-z0-9]", "", name[:200].lower())


def schedule(said: Said, sampler: str, spacing: str = "") -> None:
    """Put the scheduler that a sampler and its spacing of sigmas stand for among the settings."""
    if not sampler:
        return
    scheduler, spaced = samplers.ours(sampler, spacing)
    if scheduler:
        said.settings["scheduler"] = scheduler
    else:
        said.ignored.append(f"sampler {sampler}")
    if scheduler and not spaced:
        said.ignored.append(f"schedule {spacing or sampler}")


def _is_nothing(value: object) -> bool:
    return any(value is one or (type(value) is type(one) and value == one) for one in _NOTHING)


def lora(name: object, weight: object, digest: object = None) -> dict[str, Any]:
    """An entry of our `loras`; a file's name loses its folder and ending."""
    try:
        number: object = float(str(weight))
    except ValueError:
        number = weight
    known = {"hash": digest.lower()} if isinstance(digest, str) and digest.isalnum() else {}
    return {"name": _file(name), "weight": number, **known}


def objects(texts: Mapping[str, str], *names: str) -> Iterator[dict[str, Any]]:
    """The JSON objects among texts of these names."""
    for name in names:
        if name in texts and looks_like_json(texts[name]):
            content = json_of(texts[name], name)
            if isinstance(content, dict):
                yield content


def json_of(text: str, name: str) -> Any:
    """What a JSON text says; SettingError where it is damaged."""
    return parse_json(text, f"the text {name!r}", error=SettingError, nan_is_null=True)


def looks_like_json(text: str) -> bool:
    """Whether a text is meant to be JSON, and no prompt that begins with a bracket."""
    if text.lstrip()[:1] not in ("{", "[") or re.search(r"^Steps: ", text, re.MULTILINE):
        return False
    if re.match(r"\s*(\{\s*[\"'}]|\[\s*[\[{\"'\]])", text):
        return True  # even where it is damaged
    with contextlib.suppress(SettingError):
        json_of(text, "")
        return True
    return False


def _sides(value: object) -> dict[str, Any]:
    """Width and height of "512x768", "(512, 768)" or [512, 768]."""
    words = value if isinstance(value, list) else re.findall(r"\d{1,9}", str(value)[:100])
    return dict(zip(("width", "height"), words, strict=True)) if len(words) == 2 else {}


def _file(value: object) -> object:
    """The name in a path of either system, without the ending of a file of weights."""
    if not isinstance(value, str):
        return value
    name = PurePosixPath(value.replace("\\", "/")).name
    ending = next((end for end in _WEIGHTS if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]
