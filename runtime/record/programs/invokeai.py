"""InvokeAI: `invokeai_metadata` since version 3, `sd-metadata` of 2, the older `Dream` text."""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ...errors import SettingError
from ...files import conform
from .said import Said, lora, objects, schedule, translated

_NAMES = {
    "positiveprompt": "prompt",
    "negativeprompt": "negative_prompt",
    "prompt": "prompt",
    "width": "width",
    "height": "height",
    "seed": "seed",
    "steps": "num_inference_steps",
    "cfgscale": "guidance_scale",
    "cfgrescalemultiplier": "guidance_rescale",
    "scheduler": "sampler",
    "sampler": "sampler",
    "samplername": "sampler",
    "clipskip": "clip_skip",
    "strength": "strength",
    "refinerpositiveaestheticscore": "aesthetic_score",
    "refinernegativeaestheticscore": "negative_aesthetic_score",
}
_SILENT = {
    *("appversion", "generationmode", "type", "model", "loras", "randdevice"),
    "canvasv2metadata",
}
# The prompt language of its own (Compel): word++, (word)1.3, .blend(), .swap().
_COMPEL = re.compile(r"\w[+]|\w-(?=[\s,.)]|$)|\)[-+\d]|\)?\.(?:and|blend|swap)\(")
# Dream's switches, and the words among which it puts them.
_SWITCHES = {
    "s": "num_inference_steps",
    "S": "seed",
    "W": "width",
    "H": "height",
    "C": "guidance_scale",
    "A": "sampler",
    "f": "strength",
}
# `-s 50`, and `-s50` in early versions.
_SWITCH = re.compile(r"-(?:([sSWHCf])(\d\S*)?|(A)(\w+)?)")


class _Model(msgspec.Struct):
    """A model as versions 3 to 6 name it."""

    name: str = ""
    model_name: str = ""
    lora_name: str = ""


class _Weighed(msgspec.Struct):
    weight: float = 1.0
    model: _Model | None = None
    lora: _Model | None = None


class _Metadata(msgspec.Struct):
    """What is nested in `invokeai_metadata`."""

    model: _Model | str | None = None
    loras: list[_Weighed] | None = None
    rand_device: str | None = None


class _Part(msgspec.Struct):
    prompt: str = ""


class _Image(msgspec.Struct):
    prompt: str | list[_Part] = ""


class _Old(msgspec.Struct):
    """`sd-metadata`."""

    image: _Image
    model_weights: str | None = None


def read(texts: Mapping[str, str]) -> Said | None:
    for stated in objects(texts, "invokeai_metadata"):
        return _metadata(stated)
    for stated in objects(texts, "sd-metadata"):
        return _sd_metadata(stated)
    return next((_dream(texts[name]) for name in ("Dream", "dream") if name in texts), None)


def _metadata(stated: dict[str, Any]) -> Said:
    nested = conform(stated, _Metadata, "the text 'invokeai_metadata'", error=SettingError)
    said = _read_by(translated(stated, _NAMES, _SILENT))
    if isinstance(nested.model, str):
        said.settings["model"] = nested.model
    elif nested.model:
        said.settings["model"] = nested.model.name or nested.model.model_name
    entries = []
    for one in nested.loras or []:
        file = one.model or one.lora or _Model()
        entries.append(lora(file.name or file.model_name or file.lora_name, one.weight))
    if entries:
        said.settings["loras"] = entries
    if nested.rand_device not in (None, "cpu"):
        said.ignored.append(f"rand_device {nested.rand_device}")
    return said


def _sd_metadata(stated: dict[str, Any]) -> Said:
    old = conform(stated, _Old, "the text 'sd-metadata'", error=SettingError)
    said = translated({**stated["image"], "prompt": _joined(old.image.prompt)}, _NAMES, _SILENT)
    _divide(said)
    if old.model_weights:
        said.settings["model"] = old.model_weights
    return _read_by(said)


def _dream(text: str) -> Said:
    """`"a boat [fog]" -s 50 -S 7 -W 512 -H 768 -C 7.5 -A k_lms`; the brackets are to be avoided."""
    prompt, _, switches = text.strip().removeprefix('"').rpartition('"')
    said = Said({"prompt": prompt or text.strip()})
    words = switches.split() if prompt else []
    for word, next_word in itertools.pairwise([*words, ""]):
        if switch := _SWITCH.fullmatch(word):
            letter, joined = switch[1] or switch[3], switch[2] or switch[4]
            said.settings[_SWITCHES[letter]] = joined or next_word
        elif word.startswith("-"):
            said.ignored.append(word)
    schedule(said, said.settings.pop("sampler", ""))
    _divide(said)
    return _read_by(said)


def _joined(prompt: str | list[_Part]) -> str:
    return prompt if isinstance(prompt, str) else " ".join(part.prompt for part in prompt)


def _divide(said: Said) -> None:
    """What stood in [brackets] was the negative prompt."""
    prompt = str(said.settings.get("prompt", ""))
    negative = re.findall(r"\[([^\[\]]*)\]", prompt)
    if negative:
        said.settings["prompt"] = re.sub(r"\[[^\[\]]*\]", "", prompt).strip()
        said.settings["negative_prompt"] = ", ".join(part.strip() for part in negative)


def _read_by(said: Said) -> Said:
    """With a word on prompts that weigh words in another language."""
    prompts = (said.settings.get(name) for name in ("prompt", "negative_prompt"))
    if any(_COMPEL.search(str(prompt)) for prompt in prompts if prompt):
        said.ignored.append("the prompt's weights (Compel's language)")
    return said
