"""How a picture was made, as text: the form of AUTOMATIC1111's webui, which most readers know.

The prompt's lines, then `Negative prompt: …`, then one line of fields:
`Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 3, Size: 512x512, …`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import PromptError
from ..text.networks import loras_named
from . import fields, samplers

_NEGATIVE = "Negative prompt:"

# Field -> setting, where the value is the same in both.
_SAME = {
    "Steps": "num_inference_steps",
    "CFG scale": "guidance_scale",
    "CFG Rescale": "guidance_rescale",
    "Image CFG scale": "image_guidance_scale",
    "Seed": "seed",
    "Variation seed": "variation_seed",
    "Variation seed strength": "variation_strength",
    "Model": "model",
    "Denoising strength": "strength",
    "Mask blur": "mask_blur",
    # webui counts the text encoder's layers from the last, which is its 1.
    "Clip skip": "clip_layer",
    "Version": "version",
}
# Fields that change nothing where they have this value.
_NEUTRAL = {
    "RNG": "CPU",
    "Emphasis": "Original",
    "Eta": "1",
    "Eta DDIM": "0",
    "Sigma churn": "0",
    "Sigma tmin": "0",
    "Sigma noise": "1",
    "NGMS": "0",
    "Token merging ratio": "0",
    "Conditional mask weight": "1",
    "Noise multiplier": "1",
    "Extra noise": "0",
    "Skip Early CFG": "0",
    "CFG Rescale": "0",
    "Tiling": "False",
    "Face restoration": "False",
    "VAE": "Automatic",
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "Hires upscaler": "Lanczos",
    "Hires steps": "0",
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires Module 1": "Use same choices",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
}
# Of the program, not of the picture.
_SILENT = ("User", "Created Date", "Time taken", "Raw prompt", "Raw negative prompt")
# What is said in the place of RNG where webui's text has none.
_NOISE = "RNG (webui's numbers are a GPU's unless it says CPU; the picture will be another)"
# Old versions named the size of the result, and painted first at about these pixels.
_FIRST_PIXELS, _FIRST_MULTIPLE = 512 * 512, 64


def write(settings: Mapping[str, Any]) -> str:
    """The text of a picture's settings, which are named as the pipeline's arguments."""
    loras = settings.get("loras") or []
    tags = (f"<lora:{lora['name']}:{lora['weight']:g}>" for lora in loras)
    lines = [" ".join([str(settings.get("prompt") or ""), *tags])]
    if settings.get("negative_prompt"):
        lines.append(f"{_NEGATIVE} {settings['negative_prompt']}")
    enlarge, skipped = settings.get("enlarge"), settings.get("clip_skip")
    layer = settings.get("clip_layer") or (skipped + 1 if skipped else None)
    size = settings.get("width"), settings.get("height")
    varied = settings.get("variation_strength") or None
    said = {
        "Steps": settings.get("num_inference_steps"),
        "Sampler": samplers.webui_name(settings.get("scheduler") or settings.get("solver")),
        "CFG scale": settings.get("guidance_scale"),
        "CFG Rescale": settings.get("guidance_rescale") or None,
        "Image CFG scale": settings.get("image_guidance_scale"),
        "Seed": settings.get("seed"),
        "Size": "x".join(map(str, size)) if all(size) else None,
        "Model": settings.get("model"),
        "Variation seed": settings.get("variation_seed") if varied else None,
        "Variation seed strength": varied,
        "Denoising strength": settings.get("enlarge_strength" if enlarge else "strength"),
        "Mask blur": settings.get("mask_blur") or None,
        # webui's name for a picture painted small and enlarged; "Size" is then the small one's.
        "Hires upscale": f"{enlarge:g}" if enlarge else None,
        "Hires steps": settings.get("enlarge_steps") if enlarge else None,
        "Hires upscaler": "Lanczos" if enlarge else None,
        "Hires CFG Scale": settings.get("enlarge_guidance_scale") if enlarge else None,
        "Clip skip": layer,
        "Eta DDIM": settings.get("eta") or None,
        "Lora hashes": _hashes({lora["name"]: lora["hash"] for lora in loras if "hash" in lora}),
        "TI hashes": _hashes(
            {
                one["word"]: one["sha256"][:12]
                for one in settings.get("embeddings") or []
                if "sha256" in one
            }
        ),
        # Ours are torch's numbers on the CPU; webui draws others unless it is told.
        "RNG": "CPU",
        "Version": settings.get("version"),
    }
    given = ((name, value) for name, value in said.items() if value is not None)
    lines.append(", ".join(f"{name}: {fields.quoted(value)}" for name, value in given))
    return "\n".join(lines)


def read(text: str) -> tuple[dict[str, Any], list[str]]:
    """Settings, their values still text, and the names of fields that are not taken over."""
    lines, said = fields.split(text)
    prompt, negative = _prompts(lines)
    settings: dict[str, Any] = {"prompt": prompt}
    if negative:
        settings["negative_prompt"] = negative
    unsaid = [_NOISE] if "Seed" in said and "RNG" not in said else []
    settings.update(_adapters(prompt, said))
    settings.update(_meanings(said))
    return settings, [*said, *unsaid]


def _meanings(said: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The settings that fields stand for; these fields are taken out of the mapping."""
    yield from _second_pass(said)
    if eta := _eta(said):
        yield "eta", eta
    if "Sampler" in said and (scheduler := _scheduler(said)):
        yield "scheduler", scheduler
    for name, value in _NEUTRAL.items():
        if name in said and _is(said[name], value):
            del said[name]
    for name in _SILENT:
        said.pop(name, None)
    for name, setting in _SAME.items():
        if name in said:
            yield setting, said.pop(name)
    if size := _size(said.get("Size")):
        del said["Size"]
        yield from zip(("width", "height"), size, strict=True)


def _second_pass(said: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Our enlarging for webui's hires fix, whose second pass has the first one's guidance."""
    size, first = _size(said.get("Size")), _size(said.get("First pass size"))
    if size and first:
        larger, smaller = size, first if all(first) else _old_first_pass(*size)
        times = _times(smaller, larger)
        if times:
            del said["First pass size"]
            said["Size"] = "x".join(map(str, smaller))
    elif size and (larger := _size(said.get("Hires resize")) or (0, 0)) != (0, 0):
        times = _times(size, larger)
        if times:
            del said["Hires resize"]
    else:
        times = said.pop("Hires upscale", "")
    if not times:
        other = any(name.startswith(("Hires ", "First pass")) for name in said)
        if other and "Denoising strength" in said:
            # Of that pass, and not of a picture that was given.
            said["Hires denoising strength"] = said.pop("Denoising strength")
        return
    yield "enlarge", times
    if "Denoising strength" in said:
        yield "enlarge_strength", said.pop("Denoising strength")
    scale = said.pop("Hires CFG Scale", said.get("CFG scale"))
    if scale:
        yield "enlarge_guidance_scale", scale
    steps = said.pop("Hires steps", "0")
    if steps not in ("0", said.get("Steps")):
        yield "enlarge_steps", steps


def _times(size: tuple[int, int], larger: tuple[int, int]) -> str:
    """How many times larger; "" where both sides do not grow alike, as webui would crop it."""
    width, height = size
    if not width or not height:
        return ""
    across, down = larger[0] / width, larger[1] / height
    times = across or down
    alike = not (across and down) or abs(across - down) * max(size) < _FIRST_MULTIPLE / 8
    return f"{times:.6g}" if alike and times > 1 else ""


def _old_first_pass(width: int, height: int) -> tuple[int, int]:
    """The size that webui chose where the first pass was said to be 0x0."""
    scale = math.sqrt(_FIRST_PIXELS / max(1, width * height))
    first, second = (
        math.ceil(scale * side / _FIRST_MULTIPLE) * _FIRST_MULTIPLE for side in (width, height)
    )
    return first, second


def _eta(said: dict[str, str]) -> str | None:
    """DDIM's eta, which old versions name as that of the ancestral samplers."""
    if said.get("Sampler", "").upper() != "DDIM":
        return None
    found = [said.pop(name) for name in ("Eta DDIM", "Eta") if name in said]
    return found[0] if found else None


def _scheduler(said: dict[str, str]) -> str | None:
    """Our name for the sampler, and the spacing that newer versions of webui give apart."""
    # Fooocus calls the spacing a scheduler.
    spacing = next((name for name in ("Schedule type", "Scheduler") if name in said), "")
    scheduler, spaced = samplers.ours(said["Sampler"], said.get(spacing, ""))
    if scheduler and (spaced or spacing):
        del said["Sampler"]
    if scheduler and spaced:
        said.pop(spacing, None)
    return scheduler


def _adapters(prompt: str, said: dict[str, str]) -> dict[str, Any]:
    """The prompt without the LoRA files that it names; those, and embeddings, by name and hash."""
    found: dict[str, Any] = {}
    try:
        prompt, tagged = loras_named(prompt)
    except PromptError:
        tagged = []  # the same is said of it when it is painted
    # Fooocus has no tags.
    weights = [] if tagged else list(fields.named(said.pop("Lora weights", "")).items())
    if named := [*tagged, *weights]:
        found["prompt"] = prompt
        hashes = fields.named(said.pop("Lora hashes", ""))
        found["loras"] = [
            {"name": name, "weight": weight, **({"hash": hashes[name]} if name in hashes else {})}
            for name, weight in named
        ]
    if words := fields.named(said.pop("TI hashes", "")):
        found["embeddings"] = [
            {"name": word, "word": word, "hash": hash} for word, hash in words.items()
        ]
    return found


def _hashes(named: Mapping[str, str]) -> str | None:
    return ", ".join(f"{name}: {hash}" for name, hash in named.items()) or None


def _size(text: str | None) -> tuple[int, int] | None:
    size = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text or "")
    return (int(size[1]), int(size[2])) if size else None


def _is(value: str, neutral: str) -> bool:
    """Whether two values are the same, as text or as numbers."""
    try:
        return value == neutral or float(value[:40]) == float(neutral)
    except ValueError:
        return False


def _prompts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt, either of which may have several lines."""
    stripped = [line.strip() for line in lines]
    starts = [i for i, line in enumerate(stripped) if line.startswith(_NEGATIVE)]
    first = starts[0] if starts else len(stripped)
    negative = [line.removeprefix(_NEGATIVE).strip() for line in stripped[first:]]
    return "\n".join(stripped[:first]), "\n".join(negative)
