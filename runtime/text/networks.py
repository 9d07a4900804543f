"""`<lora:name:0.8>` in a prompt, as webui's users name the LoRA files that it shall use.

Other tags, `<hypernet:name:1>` and those of extensions, are for what nothing here knows.
"""

import logging
import math
import re

from ..errors import PromptError, shown
from ..graphs.scales import fits

log = logging.getLogger("pleinair")

# LyCORIS files once had a tag of their own.
_TAG = re.compile(r"<(?:lora|lyco):([^<>]*)>")
_ANY_TAG = re.compile(r"<(\w+):[^<>]*>")


def loras_named(prompt: str) -> tuple[str, list[tuple[str, float]]]:
    """The prompt without the tags, and each one's name and weight; 1 where it says none.

    Raises PromptError for a tag whose weight is no number, or that has one for the UNet and
    another for the text encoder.
    """
    named = []
    for tag in _TAG.finditer(prompt):
        name, *weights = (part.strip() for part in tag[1].split(":"))
        numbers = {_number(weight, tag[0]) for weight in weights} or {1.0}
        if not name:
            raise PromptError(f"{shown(tag[0])}: names no file; write <lora:name:0.8>")
        if len(numbers) > 1:
            raise PromptError(
                f"{shown(tag[0])}: one weight for all of a file, please: <lora:name:0.8>"
            )
        named.append((name, numbers.pop()))
    return _TAG.sub("", prompt).strip() if named else prompt, named


def without_tags(prompt: str) -> str:
    """The prompt without tags of any kind, which are no words; one line names them."""
    tags = [match[0] for match in _ANY_TAG.finditer(prompt)]
    if not tags:
        return prompt
    for names_lora in (True, False):
        some = [tag for tag in tags if bool(_TAG.fullmatch(tag)) == names_lora]
        if some:
            log.warning(
                "painted without %s: %s",
                shown(", ".join(dict.fromkeys(some)), 200),
                "LoRA files are named by --lora, or in a program by loras= where the model is "
                "opened"
                if names_lora
                else "of such tags <lora:name:0.8> alone is known",
            )
    return _ANY_TAG.sub("", prompt).strip()


def _number(weight: str, tag: str) -> float:
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not fits(number):
        raise PromptError(f"{shown(tag)}: {shown(weight)!r} is no weight; write <lora:name:0.8>")
    return number
