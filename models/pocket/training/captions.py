"""How a scene is said, in English and Chinese.

    rocket
    a red apple, noto style
    a cat and a pizza on a light green background
    three stars
    蓝色背景上的火箭，twemoji风格

What a caption leaves unsaid: the style is any, the background is white.
"""

import re
from random import Random

from .scenes import Scene
from .vocabulary import BACKGROUNDS, SUBJECTS

CHINESE_SHARE = 0.35
NUMBERS = {2: ("two", "2"), 3: ("three", "3")}
CHINESE_NUMBERS = {1: "一", 2: "两", 3: "三"}
MEASURES = "个只颗"


def is_plural(noun: str) -> bool:
    """Whether a name is a plural already: scissors, grapes, but not bus, dress or rhinoceros."""
    return noun.endswith("s") and not noun.endswith(("ss", "us", "os"))


def article(noun: str) -> str:
    if is_plural(noun):
        return noun
    vowel = noun[0] in "aeiou" and not noun.startswith(("uni", "ufo"))
    return f"an {noun}" if vowel else f"a {noun}"


IRREGULAR = {
    "dice": "dice",
    "knife": "knives",
    "leaf": "leaves",
    "mouse": "mice",
    "snowman": "snowmen",
    "wolf": "wolves",
}


def plural(noun: str) -> str:
    """The plural of a name, which is that of its head: slices of pizza, red hearts."""
    if parts := re.fullmatch(r"(.+?)( (?:of|on|with) .+)", noun):
        return plural(parts[1]) + parts[2]
    first, space, last = noun.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif not is_plural(last) and not last.endswith(("fish", "deer")):
        if last.endswith("y") and last[-2] not in "aeiou":
            last = last[:-1] + "ie"
        sibilant = last.endswith(("s", "x", "ch", "sh", "ato", "ano", "ado"))
        last += "es" if sibilant else "s"
    return f"{first}{space}{last}"


def caption(random: Random, scene: Scene, *, style: bool = True, background: bool = True) -> str:
    """One way of saying `scene`, in either language, drawn with `random`.

    `style` and `background` are said or left unsaid.
    """
    say = in_chinese if random.random() < CHINESE_SHARE else in_english
    return say(random, scene, style=style, background=background)


def in_english(random: Random, scene: Scene, *, style: bool, background: bool) -> str:
    words = _english_things(random, scene.things)
    if style:
        words = random.choice(
            (f"{words}, {scene.style} style",) * 3 + (f"{words} in {scene.style} style",)
        )
    if background:
        ground = article(f"{scene.background} background")
        comma = "," if style and random.random() < 0.5 else ""
        words = f"{words}{comma} on {ground}"
    return words


def in_chinese(random: Random, scene: Scene, *, style: bool, background: bool) -> str:
    words = _chinese_things(random, scene.things)
    if background:
        ground = f"{BACKGROUNDS[scene.background]['zh']}背景"
        words = f"{ground}上的{words}" if random.random() < 0.7 else f"{words}，{ground}"
    if style:
        words = f"{words}，{scene.style}风格"
    return words


def _english_things(random: Random, things: tuple[str, ...]) -> str:
    nouns = [random.choice((thing, *SUBJECTS[thing]["also"])) for thing in things]
    if len(set(things)) == 1 and len(things) > 1:
        number = random.choice((NUMBERS[len(things)][0],) * 3 + (NUMBERS[len(things)][1],))
        return f"{number} {plural(nouns[0])}"
    with_articles = random.random() < 0.7
    return " and ".join(article(noun) if with_articles else noun for noun in nouns)


def _chinese_things(random: Random, things: tuple[str, ...]) -> str:
    nouns = [random.choice(SUBJECTS[thing]["zh"]) for thing in things]
    if len(set(things)) == 1 and (len(things) > 1 or random.random() < 0.2):
        return f"{CHINESE_NUMBERS[len(things)]}{random.choice(MEASURES)}{nouns[0]}"
    return "和".join(nouns)
