"""What the model can be asked for, and in which words.

A caption names a subject, sometimes a style and sometimes a background:

    rocket
    a red apple, noto style
    a rocket, twemoji style, on a light green background

A caption without a style fits every style; one without a background means white.
"""

import json
from pathlib import Path
from random import Random

_VOCABULARY = json.loads((Path(__file__).parent / "subjects.json").read_text("utf-8"))

#: Style named in captions -> icon set, in the order of the `styles` axis of the data.
STYLES: dict[str, str] = _VOCABULARY["styles"]
#: Background named in captions -> sRGB bytes, in the order of the `backgrounds` axis.
BACKGROUNDS: dict[str, list[int]] = _VOCABULARY["backgrounds"]
#: Subject -> {"icon": name in the icon sets, "also": other words for it}.
SUBJECTS: dict[str, dict] = _VOCABULARY["subjects"]


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" and not noun.startswith("uni") else f"a {noun}"


def caption(random: Random, subject: str, style: str | None, background: str | None) -> str:
    """One way of saying it, drawn with `random`; `None` leaves the style or background unsaid."""
    names = [subject, *SUBJECTS[subject]["also"]]
    noun = random.choice(names) if random.random() < 0.4 else subject
    words = noun if random.random() < 0.3 else article(noun)
    ground = None if background is None else f"on {article(background + ' background')}"
    if style is None:
        return words if ground is None else f"{words} {ground}"
    words = f"{words}, {style} style"
    return words if ground is None else f"{words}, {ground}"
