"""`vocabulary.json`: the words that the model knows, for the program to name those it does not."""

from typing import Any

from .captions import CHINESE_NUMBERS, NUMBERS, plural
from .phrasings import (
    CHINESE_COLOURS,
    CHINESE_JOINTS,
    ENGLISH_COLOURS,
    MEASURES,
    bare,
    coloured,
    own_colours,
)
from .vocabulary import BACKGROUNDS, FURTHER_NAMES, STYLES, SUBJECTS

#: What means nothing by itself. Joints that a picture does not show (behind, under) are not here.
ENGLISH_FILLERS = (
    *("a", "an", "the", "some", "one", "single", "1", "of", "on", "in", "with", "and", "also"),
    *("beside", "next", "to", "picture", "image", "icon", "drawing", "emoji", "draw", "paint"),
    *("this", "that", "is", "are", "there", "it", "please", "me"),
)
CHINESE_FILLERS = (*"的在上下中里有画请图", "图片", "图标", "一下", "这", "那", "二", "是")


def listing() -> dict[str, Any]:
    """What `vocabulary.json` says: names, further forms of them, and fillers."""
    things = {thing: [*_english(thing)[1:], *_chinese(thing)] for thing in SUBJECTS}
    backgrounds = {
        f"{colour} background": [f"{zh}背景" for zh in _chinese_colours(colour)]
        for colour in BACKGROUNDS
    }
    styles = {style: [f"{style} style", f"{style}风格"] for style in STYLES}
    names = {"things": things, "styles": styles, "backgrounds": backgrounds}
    numbers = (word for words in NUMBERS.values() for word in words)
    fillers = {*ENGLISH_FILLERS, *numbers, *CHINESE_FILLERS, *CHINESE_NUMBERS.values()}
    fillers |= {*MEASURES, *CHINESE_JOINTS} - {"、"}
    return {
        "names": names,
        "forms": sorted({*_plurals(), *_coloured_things(), *_grounds()} - {*things}),
        "fillers": sorted(fillers),
    }


def _english(thing: str) -> list[str]:
    return [thing, *SUBJECTS[thing]["also"], *FURTHER_NAMES.get(thing, {}).get("en", ())]


def _chinese(thing: str) -> list[str]:
    return [*SUBJECTS[thing]["zh"], *FURTHER_NAMES.get(thing, {}).get("zh", ())]


def _chinese_colours(colour: str) -> list[str]:
    return [BACKGROUNDS[colour]["zh"], *CHINESE_COLOURS[colour]]


def _plurals() -> set[str]:
    return {plural(name) for thing in SUBJECTS for name in _english(thing)}


def _coloured_things() -> set[str]:
    """Colour and thing, where that is what the thing's drawings show: 红色的苹果, but no blue car.

    Nor 绿色的苹果: it is painted red; the green apple's own name is 青苹果.
    """
    found = set()
    for colour in BACKGROUNDS:
        names = [colour, *ENGLISH_COLOURS.get(colour, ())]
        for thing in SUBJECTS:
            nouns = [*dict.fromkeys(bare(noun) for noun in _english(thing))]
            chinese = [noun for noun in _chinese(thing) if not _is_coloured(noun)]
            if colour not in own_colours(thing) or coloured(thing, colour) != thing:
                chinese = [noun for noun in chinese if _named(thing, colour, noun)]
                nouns = []
            found |= {f"{name} {noun}" for name in names for noun in nouns}
            found |= {f"{name} {plural(noun)}" for name in names for noun in nouns}
            zh = _chinese_colours(colour)
            found |= {f"{name}{of}{noun}" for name in zh for of in ("", "的") for noun in chinese}
    return found


def _named(thing: str, colour: str, noun: str) -> bool:
    """Whether one of its Chinese names is the colour and this noun, as 红灯笼 is."""
    return any(f"{short}{noun}" in _chinese(thing) for short in CHINESE_COLOURS[colour])


def _is_coloured(noun: str) -> bool:
    return noun.startswith(tuple(short for names in CHINESE_COLOURS.values() for short in names))


def _grounds() -> set[str]:
    found = set()
    for colour in BACKGROUNDS:
        for name in (colour, *ENGLISH_COLOURS.get(colour, ())):
            found |= {f"{name} background", f"on {name}"}
            found |= {f"{joint} {name} background" for joint in ("against a", "in front of a")}
        for zh in _chinese_colours(colour):
            found |= {f"{zh}的背景", f"{zh}底", f"背景{zh}", f"背景是{zh}", f"背景为{zh}"}
    return found
