"""Further wordings of a scene, each beside a caption that the model was trained on.

    一只红色的苹果                         红苹果
    在蓝色背景上的小猫                     蓝色背景上的猫
    a photo of a kitten on pink            a cat on a pink background

The left text is what people write, the right one what `captions` would say. A thing is painted in
the colours of its drawings: of "a blue car" a car is left, and of "红色的心" a red heart.
"""

from dataclasses import dataclass, replace
from random import Random

from .captions import CHINESE_SHARE, article, plural
from .scenes import Scene
from .vocabulary import BACKGROUNDS, FURTHER_NAMES, SUBJECTS

#: Measure words, the usual ones first.
MEASURES = "只个颗辆朵条座棵把张本台架艘匹头块片杯件双枚幅位支根顶间轮部粒"
USUAL_MEASURES = 3
CHINESE_NUMBERS = {1: ("一",), 2: ("两", "2", "二"), 3: ("三", "3")}
ENGLISH_NUMBERS = {2: ("two", "2"), 3: ("three", "3")}
#: Colour -> further Chinese names of it, and the syllable that stands before a noun.
CHINESE_COLOURS = {
    "white": ("白",),
    "black": ("黑",),
    "gray": ("灰",),
    "red": ("红",),
    "orange": ("橙",),
    "yellow": ("黄",),
    "green": ("绿",),
    "blue": ("蓝",),
    "purple": ("紫",),
    "pink": ("粉红色", "粉"),
    "brown": ("褐色", "棕"),
    "light blue": ("淡蓝色", "浅蓝"),
    "light green": ("淡绿色", "浅绿"),
    "dark blue": ("深蓝",),
}
ENGLISH_COLOURS = {"gray": ("grey",)}

ENGLISH_LEADS = (
    *("a picture of", "an image of", "an icon of", "a drawing of", "a photo of", "a painting of"),
    *("picture of", "icon of", "an emoji of", "draw", "paint"),
)
ENGLISH_DETERMINERS = ("the", "one", "a single")
ENGLISH_JOINTS = ("and", "with", "&", "beside", "next to", "and also")
ENGLISH_GROUNDS = (
    *("on {colour}", "on {colour} background", "on the {colour} background"),
    *("with {a_colour} background", "with {colour} background", "against {a_colour} background"),
    *("in front of {a_colour} background", "over {a_colour} background"),
)
CHINESE_LEADS = ("画", "画一下", "请画", "一张", "一幅", "有")
CHINESE_TAILS = ("的图", "的图片", "的图标", "的画")
CHINESE_JOINTS = ("和", "与", "跟", "、")
CHINESE_GROUNDS_BEFORE = (
    *("在{colour}背景上的", "{colour}背景的", "{colour}的背景上的", "{colour}背景下的"),
    *("在{colour}背景下的", "{colour}背景中的", "{colour}背景，", "{colour}的背景，"),
    *("{colour}底的", "背景是{colour}的", "背景为{colour}的"),
)
CHINESE_GROUNDS_AFTER = (
    *("在{colour}背景上", "在{colour}的背景上", "，{colour}的背景", "，背景是{colour}"),
    *("，背景为{colour}", "，{colour}底", "，背景{colour}", " {colour}背景"),
)
#: Words that no drawing shows: what stands beside them is to be painted as without them.
UNSHOWN = {
    "en": (
        *("cute", "small", "little", "big", "large", "beautiful", "pretty", "old", "new", "happy"),
        *("funny", "simple", "flying", "colorful", "shiny", "nice"),
    ),
    "zh": ("可爱", "漂亮", "小", "大", "美丽", "新", "旧", "古老", "快乐", "微笑", "好看", "飞翔"),
}
#: English name -> thing.
_THINGS = {name: thing for thing, its in SUBJECTS.items() for name in (thing, *its["also"])}
COLOURED, UNKNOWN, LED = 0.4, 0.15, 0.12
#: How often a thing that comes in colours is said in one of them, where a colour is said.
OWN_COLOUR = 0.6


@dataclass(frozen=True)
class Phrasing:
    """A wording, and the caption by which training said the same.

    scene: what it asks for; where a colour makes a thing another one, that.
    language: "en" or "zh".
    """

    text: str
    caption: str
    scene: Scene
    language: str


@dataclass(frozen=True)
class _Said:
    """A noun phrase as it is worded, the known name of what is painted for it, and that thing."""

    words: str
    noun: str
    thing: str


def phrasing(random: Random, scene: Scene, *, style: bool, background: bool) -> Phrasing:
    """One further wording of `scene`, in either language, drawn with `random`."""
    say = _in_chinese if random.random() < CHINESE_SHARE + 0.25 else _in_english
    return say(random, scene, style=style, background=background)


def coloured(thing: str, colour: str) -> str:
    """What a thing said to be of a colour is: a green apple is another thing, a blue car a car."""
    wanted = (f"{colour} {bare(name)}" for name in (thing, *SUBJECTS[thing]["also"]))
    return next((_THINGS[name] for name in wanted if name in _THINGS), thing)


def own_colours(thing: str) -> list[str]:
    """Colours in which a thing is known: red and green of apples, none of a car."""
    names = (thing, *SUBJECTS[thing]["also"])
    return [
        colour
        for colour in BACKGROUNDS
        if coloured(thing, colour) != thing or any(n.startswith(f"{colour} ") for n in names)
    ]


def bare(name: str) -> str:
    """An English name without the colour it begins with: apple, of "red apple"."""
    first, _, rest = name.partition(" ")
    return rest if rest and first in BACKGROUNDS else name


#: The things that come in colours.
COLOURFUL = [thing for thing in SUBJECTS if own_colours(thing)]


def _colour(random: Random, thing: str) -> str:
    own = [colour for colour in own_colours(thing) if coloured(thing, colour) == thing]
    own = own if random.random() < OWN_COLOUR else []
    return random.choice(own or list(BACKGROUNDS))


def _unknown(random: Random, language: str) -> str:
    """A word that says nothing: of those above, or of syllables that are none."""
    if random.random() < 0.5:
        return random.choice(UNSHOWN[language])
    if language == "zh":
        return "".join(chr(random.randrange(0x4E00, 0x9FA5)) for _ in range(random.choice((1, 2))))
    syllables = random.choices(("ka", "ro", "mi", "tel", "sun", "ver", "po", "lish", "an"), k=3)
    return "".join(syllables[: random.choice((2, 3))])


def _in_english(random: Random, scene: Scene, *, style: bool, background: bool) -> Phrasing:
    several = len(scene.things) > 1 and len(set(scene.things)) == 1
    if several:
        said = _english_noun(random, scene.things[0], many=True)
        all_said = [said] * len(scene.things)
        number = ENGLISH_NUMBERS[len(scene.things)]
        words, caption = f"{random.choice(number)} {said.words}", f"{number[0]} {said.noun}"
    else:
        all_said = [_english_noun(random, thing) for thing in scene.things]
        determiner = random.choice(("", *["article"] * 3, *ENGLISH_DETERMINERS))
        joint = f" {random.choice(ENGLISH_JOINTS)} "
        words = joint.join(_determined(said.words, determiner) for said in all_said)
        caption = " and ".join(article(said.noun) for said in all_said)
    if random.random() < LED:
        words = f"{random.choice(ENGLISH_LEADS)} {words}"
    if style:
        caption = f"{caption}, {scene.style} style"
    forms = ["{words}"]
    if style:
        own = [f"{{words}}, {scene.style}", f"{{words}}, {scene.style} style"]
        own += [f"{scene.style} style, {{words}}", f"{{words}} in the {scene.style} style"]
        forms = own if several else [*own, f"{scene.style} style {{words}}"]
    text = random.choice(forms).format(words=words)
    if background:
        colour = random.choice((scene.background, *ENGLISH_COLOURS.get(scene.background, ())))
        ground = random.choice(ENGLISH_GROUNDS)
        ground = ground.format(colour=colour, a_colour=article(colour))
        loose = f"{colour} background"
        usual = f"{text} on {article(loose)}"
        text = random.choice((usual, f"{text} {ground}", f"{text}, {loose}", f"{loose}, {text}"))
        caption = f"{caption} on {article(f'{scene.background} background')}"
    return Phrasing(text, caption, _painted(scene, all_said), "en")


def _determined(words: str, determiner: str) -> str:
    return article(words) if determiner == "article" else f"{determiner} {words}".strip()


def _english_noun(random: Random, thing: str, many: bool = False) -> _Said:
    names = [thing, *SUBJECTS[thing]["also"]]
    further = FURTHER_NAMES.get(thing, {}).get("en", ())
    noun = known = random.choice(names)
    painted = thing
    if further and random.random() < 0.5:
        noun, known = random.choice(further), thing
    words = plural(noun) if many else noun
    if random.random() < COLOURED:
        colour = _colour(random, thing)
        words = f"{random.choice((colour, *ENGLISH_COLOURS.get(colour, ())))} {words}"
        painted = coloured(thing, colour)
        known = known if painted == thing else painted
    if random.random() < UNKNOWN:
        words = f"{_unknown(random, 'en')} {words}"
    return _Said(words, plural(known) if many else known, painted)


def _in_chinese(random: Random, scene: Scene, *, style: bool, background: bool) -> Phrasing:
    several = len(scene.things) > 1 and len(set(scene.things)) == 1
    if several:
        said = _chinese_noun(random, scene.things[0])
        all_said = [said] * len(scene.things)
        number = CHINESE_NUMBERS[len(scene.things)]
        words = f"{random.choice(number)}{_measure(random)}{said.words}"
        caption = f"{number[0]}个{said.noun}"
    else:
        all_said = [_chinese_noun(random, thing) for thing in scene.things]
        counted = [random.random() < 0.6 for _ in all_said]
        words = random.choice(CHINESE_JOINTS).join(
            f"一{_measure(random)}{said.words}" if one else said.words
            for said, one in zip(all_said, counted, strict=True)
        )
        caption = "和".join(said.noun for said in all_said)
    if random.random() < LED / 2:
        words = f"{random.choice(CHINESE_LEADS)}{words}"
    elif random.random() < LED / 2:
        words = f"{words}{random.choice(CHINESE_TAILS)}"
    text = words
    if background:
        colour = random.choice((_zh(scene.background), *CHINESE_COLOURS[scene.background]))
        usual = f"{colour}背景上的{text}", f"{text}，{colour}背景"
        before = random.choice(CHINESE_GROUNDS_BEFORE).format(colour=colour) + text
        after = text + random.choice(CHINESE_GROUNDS_AFTER).format(colour=colour)
        text = random.choice((*usual, before, after))
        caption = f"{_zh(scene.background)}背景上的{caption}"
    if style:
        named = f"{scene.style}风格"
        behind = f"{text}，{named}", f"{text}, {named}", f"{text}，{scene.style}", f"{text} {named}"
        text = random.choice((*behind, f"{named}的{text}", f"{named}，{text}"))
        caption = f"{caption}，{named}"
    return Phrasing(text, caption, _painted(scene, all_said), "zh")


def _painted(scene: Scene, said: list[_Said]) -> Scene:
    return replace(scene, things=tuple(one.thing for one in said))


def _zh(colour: str) -> str:
    name: str = BACKGROUNDS[colour]["zh"]
    return name


def _measure(random: Random) -> str:
    return random.choice(random.choice((MEASURES[:USUAL_MEASURES], MEASURES)))


def _chinese_noun(random: Random, thing: str) -> _Said:
    names = SUBJECTS[thing]["zh"]
    further = FURTHER_NAMES.get(thing, {}).get("zh", ())
    noun = known = random.choice(names)
    painted = thing
    if further and random.random() < 0.5:
        noun, known = random.choice(further), names[0]
    words = noun
    if random.random() < COLOURED:
        colour = _colour(random, thing)
        name = random.choice((_zh(colour), _zh(colour), *CHINESE_COLOURS[colour]))
        words = f"{name}{random.choice(('的', '的', ''))}{words}"
        painted = coloured(thing, colour)
        known = known if painted == thing else SUBJECTS[painted]["zh"][0]
    if random.random() < UNKNOWN:
        words = f"{_unknown(random, 'zh')}{random.choice(('的', ''))}{words}"
    return _Said(words, known, painted)
