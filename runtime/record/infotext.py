"""How a picture was made, as text: the form of AUTOMATIC1111's webui, which most readers know.

The prompt's lines, then `Negative prompt: …`, then one line of fields:
`Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 3, Size: 512x512, …`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .. import schedulers
from ..errors import PromptError
from ..text.networks import loras_named

_NEGATIVE = "Negative prompt:"
# Fewer fields than this, and the last line is part of the prompt: webui's own rule.
_FEWEST_FIELDS = 3

# Field -> setting, where the value is the same in both.
_SAME = {
    "Steps": "num_inference_steps",
    "CFG scale": "guidance_scale",
    "Seed": "seed",
    "Model": "model",
    "Denoising strength": "strength",
    "Version": "version",
}

# Our scheduler -> webui's sampler. Those that it does not have keep our name.
_SAMPLERS = {
    "ddim": "DDIM",
    "plms": "PLMS",
    "lms": "LMS",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "unipc": "UniPC",
    "lcm": "LCM",
}
_SPACINGS = {"_karras": " Karras", "_exponential": " Exponential"}
# What newer versions say beside the sampler's name where its sigmas are spaced as usual.
_USUAL = {"Automatic", "Uniform", "Normal"}


def write(settings: Mapping[str, Any]) -> str:
    """The text of a picture's settings, which are named as the pipeline's arguments."""
    loras = settings.get("loras") or []
    tags = (f"<lora:{lora['name']}:{lora['weight']:g}>" for lora in loras)
    lines = [" ".join([str(settings.get("prompt") or ""), *tags])]
    if settings.get("negative_prompt"):
        lines.append(f"{_NEGATIVE} {settings['negative_prompt']}")
    same = {name: settings.get(setting) for name, setting in _SAME.items()}
    if enlarge := settings.get("enlarge"):
        same["Denoising strength"] = settings.get("enlarge_strength")
    skipped = settings.get("clip_skip")
    size = settings.get("width"), settings.get("height")
    fields = {
        "Steps": same.pop("Steps"),
        "Sampler": sampler(settings.get("scheduler") or settings.get("solver")),
        "CFG scale": same.pop("CFG scale"),
        "Seed": same.pop("Seed"),
        "Size": "x".join(map(str, size)) if all(size) else None,
        "Model": same.pop("Model"),
        "Denoising strength": same.pop("Denoising strength"),
        # webui's name for a picture painted small and enlarged; "Size" is then the small one's.
        "Hires upscale": f"{enlarge:g}" if enlarge else None,
        "Hires upscaler": "Lanczos" if enlarge else None,
        # webui counts from the last layer, which is its 1; diffusers and we count those left out.
        "Clip skip": skipped + 1 if skipped else None,
        "Eta DDIM": settings.get("eta") or None,
        "Lora hashes": _hashes({lora["name"]: lora["hash"] for lora in loras if "hash" in lora}),
        "TI hashes": _hashes(
            {one["word"]: one["sha256"][:12] for one in settings.get("embeddings") or []}
        ),
        # Ours are torch's numbers on the CPU; webui draws others unless it is told.
        "RNG": "CPU",
        **same,
    }
    given = ((name, value) for name, value in fields.items() if value is not None)
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in given))
    return "\n".join(lines)


def read(text: str) -> tuple[dict[str, Any], list[str]]:
    """Settings, their values still text, and the names of fields that mean nothing here."""
    *lines, last = text.strip().split("\n")
    fields = dict(_fields(last))
    if len(fields) < _FEWEST_FIELDS:
        lines, fields = [*lines, last], {}
    prompt, negative = _prompts(lines)
    settings: dict[str, Any] = {"prompt": prompt}
    if negative:
        settings["negative_prompt"] = negative
    settings.update(_adapters(prompt, fields))
    settings.update(_meanings(fields))
    return settings, list(fields)


def sampler(scheduler: str | None) -> str | None:
    """webui's name for one of our schedulers; the same name where it has none."""
    if scheduler is None:
        return None
    name, spacing = scheduler, ""
    for suffix, shown in _SPACINGS.items():
        if scheduler.endswith(suffix):
            name, spacing = scheduler.removesuffix(suffix), shown
    return _SAMPLERS[name] + spacing if name in _SAMPLERS else scheduler


def _meanings(fields: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The settings that fields stand for; these fields are taken out of the mapping."""
    if "Hires upscale" in fields:
        yield "enlarge", fields.pop("Hires upscale")
        if "Denoising strength" in fields:
            yield "enlarge_strength", fields.pop("Denoising strength")
        if fields.get("Hires upscaler") == "Lanczos":
            del fields["Hires upscaler"]
    for name, setting in _SAME.items():
        if name in fields:
            yield setting, fields.pop(name)
    if size := re.fullmatch(r"(\d{1,9})x(\d{1,9})", fields.get("Size", "")):
        del fields["Size"]
        yield from zip(("width", "height"), size.groups(), strict=True)
    if fields.get("Clip skip", "").isdecimal():
        yield "clip_skip", str(max(0, int(fields.pop("Clip skip")[:9]) - 1))
    for name in ("Eta DDIM", "Eta"):
        if name in fields and fields.get("Sampler", "").upper() == "DDIM":
            yield "eta", fields.pop(name)
    if "Sampler" in fields and (scheduler := _scheduler(fields)):
        yield "scheduler", scheduler
    if fields.get("RNG") == "CPU":
        del fields["RNG"]


def _adapters(prompt: str, fields: dict[str, str]) -> dict[str, Any]:
    """The prompt without the LoRA files that it names; those, and embeddings, by name and hash."""
    try:
        prompt, named = loras_named(prompt)
    except PromptError:
        return {}
    found: dict[str, Any] = {"prompt": prompt}
    words = _named(fields.pop("TI hashes", ""))
    if named:
        loras = _named(fields.pop("Lora hashes", ""))
        found["loras"] = [
            {"name": name, "weight": weight, **({"hash": loras[name]} if name in loras else {})}
            for name, weight in named
        ]
    if words:
        found["embeddings"] = [
            {"name": word, "word": word, "hash": hash} for word, hash in words.items()
        ]
    return found


def _hashes(named: Mapping[str, str]) -> str | None:
    return ", ".join(f"{name}: {hash}" for name, hash in named.items()) or None


def _named(hashes: str) -> dict[str, str]:
    """webui's "name: hash, name: hash"."""
    pairs = (pair.rpartition(":") for pair in hashes.split(","))
    return {name.strip(): hash.strip() for name, _, hash in pairs if name.strip() and hash.strip()}


def _scheduler(fields: dict[str, str]) -> str | None:
    """Our name for the sampler, and the spacing that newer versions of webui give apart."""
    ours = {sampler(name): name for name in schedulers.names()}
    spaced = ours.get(f"{fields['Sampler']} {fields.get('Schedule type')}")
    plain = ours.get(fields["Sampler"])
    if spaced or plain:
        del fields["Sampler"]
    if spaced or fields.get("Schedule type") in _USUAL:
        fields.pop("Schedule type", None)
    return spaced or plain


def _prompts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt, either of which may have several lines."""
    stripped = [line.strip() for line in lines]
    starts = [i for i, line in enumerate(stripped) if line.startswith(_NEGATIVE)]
    first = starts[0] if starts else len(stripped)
    negative = [line.removeprefix(_NEGATIVE).strip() for line in stripped[first:]]
    return "\n".join(stripped[:first]), "\n".join(negative)


def _fields(line: str) -> Iterator[tuple[str, str]]:
    """The `name: value` pairs of a line. A value with a comma in it stands as a JSON string.

    Walked by hand: a regular expression takes hours for what a prankster writes.
    """
    position = 0
    while (colon := line.find(":", position)) >= 0:
        name = line[position:colon].rpartition(",")[2].strip()
        comma = line.find(",", colon)
        value = line[colon + 1 : comma if comma >= 0 else len(line)].strip()
        if value.startswith('"'):
            value, end = _unquoted(line, line.index('"', colon), value)
            comma = line.find(",", max(end, colon))
        if name:
            yield name, value
        if comma < 0:
            return
        position = comma + 1


def _unquoted(line: str, start: int, otherwise: str) -> tuple[str, int]:
    """The JSON string that starts there, and where it ends; `otherwise` where it is none."""
    try:
        value, end = json.JSONDecoder().raw_decode(line, start)
    except ValueError:
        return otherwise, start
    return str(value), end


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text
