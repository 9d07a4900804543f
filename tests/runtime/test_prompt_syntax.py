"""The prompt language, case by case: what stable-diffusion-webui documents and does.

Expected values are written out by hand. The long example and the first lines of the schedules are
those of webui's own documentation.
"""

import random

import pytest

from pleinair.runtime.text.emphasis import emphasised
from pleinair.runtime.text.schedule import texts_by_step

LESS = 1 / 1.1

# prompt -> stretches between BREAKs -> (words, weight)
EMPHASIS: list[tuple[str, list[list[tuple[str, float]]]]] = [
    # Plain text, and characters that mean nothing on their own.
    ("", [[]]),
    ("a red apple", [[("a red apple", 1)]]),
    ("a: b, c | d {e} <f> __g__ 1.5", [[("a: b, c | d {e} <f> __g__ 1.5", 1)]]),
    ("ratio 16:9", [[("ratio 16:9", 1)]]),
    ("苹果，🍎", [[("苹果，🍎", 1)]]),
    ("  a  \n b ", [[("  a  \n b ", 1)]]),
    # Round brackets: 1.1 each.
    ("(apple)", [[("apple", 1.1)]]),
    ("an (important) word", [[("an ", 1), ("important", 1.1), (" word", 1)]]),
    ("((apple))", [[("apple", 1.21)]]),
    ("(((apple)))", [[("apple", 1.331)]]),
    ("(a (b) c)", [[("a ", 1.1), ("b", 1.21), (" c", 1.1)]]),
    ("(un)(happy)", [[("unhappy", 1.1)]]),
    ("()", [[]]),
    ("a () b", [[("a  b", 1)]]),
    # Square brackets: 1 / 1.1 each.
    ("[apple]", [[("apple", LESS)]]),
    ("[[apple]]", [[("apple", LESS**2)]]),
    ("([apple])", [[("apple", 1)]]),
    ("[(apple)] tree", [[("apple tree", 1)]]),
    # Numbers.
    ("(apple:1.3)", [[("apple", 1.3)]]),
    ("(apple:.5)", [[("apple", 0.5)]]),
    ("(apple:2)", [[("apple", 2)]]),
    ("(apple:2.)", [[("apple", 2)]]),
    ("(apple:+1.5)", [[("apple", 1.5)]]),
    ("(apple:-1)", [[("apple", -1)]]),
    ("(apple:0)", [[("apple", 0)]]),
    ("(apple: 1.3 )", [[("apple", 1.3)]]),
    ("(apple :1.3)", [[("apple ", 1.3)]]),
    ("((apple:1.3))", [[("apple", 1.43)]]),
    ("(a (b:1.5):2)", [[("a ", 2), ("b", 3)]]),
    ("(:1.3)", [[]]),
    ("(a:b:1.3)", [[("a:b", 1.3)]]),
    ("(red, green:1.2) blue", [[("red, green", 1.2), (" blue", 1)]]),
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [
            [
                ("a ", 1),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ]
        ],
    ),
    # No numbers: text, and what is around it closes as usual.
    ("(apple:big)", [[("apple:big", 1.1)]]),
    ("(apple:1.2.3)", [[("apple:1.2.3", 1.1)]]),
    ("(apple:)", [[("apple:", 1.1)]]),
    ("(apple:1,3)", [[("apple:1,3", 1.1)]]),
    ("[apple:1.3]", [[("apple:1.3", LESS)]]),
    # Brackets without a partner: open ones hold to the end, closing ones are text.
    ("(unbalanced", [[("unbalanced", 1.1)]]),
    ("[unbalanced", [[("unbalanced", LESS)]]),
    ("a ((b) c", [[("a ", 1), ("b", 1.21), (" c", 1.1)]]),
    ("balanced)", [[("balanced)", 1)]]),
    ("balanced]", [[("balanced]", 1)]]),
    ("apple:1.3)", [[("apple:1.3)", 1)]]),
    ("(a]", [[("a]", 1.1)]]),
    ("[a)", [[("a)", LESS)]]),
    # Crossing pairs count each for itself.
    ("(a [b) c]", [[("a ", 1.1), ("b", 1), (" c", LESS)]]),
    # Escapes.
    (r"a \(word\)", [[("a (word)", 1)]]),
    (r"\[word\]", [[("[word]", 1)]]),
    (r"\(literal\]", [[("(literal]", 1)]]),
    (r"(smile \:\))", [[("smile :)", 1.1)]]),
    (r"anime_\(character\)", [[("anime_(character)", 1)]]),
    (r"(a \(b\):1.4)", [[("a (b)", 1.4)]]),
    (r"C\\D", [[(r"C\D", 1)]]),
    (r"a\b", [[("ab", 1)]]),
    ("a\\", [[("a", 1)]]),
    (r"\\(a)", [[("\\", 1), ("a", 1.1)]]),
    # BREAK: a word of its own, in capitals.
    ("a BREAK b", [[("a", 1)], [("b", 1)]]),
    ("a\nBREAK\nb", [[("a", 1)], [("b", 1)]]),
    ("BREAK a", [[], [("a", 1)]]),
    ("a BREAK", [[("a", 1)], []]),
    ("a BREAK BREAK b", [[("a", 1)], [], [("b", 1)]]),
    ("a,BREAK,b", [[("a,", 1)], [(",b", 1)]]),
    ("a break b", [[("a break b", 1)]]),
    ("BREAKFAST", [[("BREAKFAST", 1)]]),
    ("(a) BREAK [b]", [[("a", 1.1)], [("b", LESS)]]),
    ("(a BREAK b:1.5) c", [[("a", 1.5)], [("b", 1.5), (" c", 1)]]),
]

# prompt -> text -> for how many of ten steps, one after the other
SCHEDULES: list[tuple[str, list[tuple[str, int]]]] = [
    ("test", [("test", 10)]),
    ("", [("", 10)]),
    ("a [b:3]", [("a ", 3), ("a b", 7)]),
    ("a [b: 3]", [("a ", 3), ("a b", 7)]),
    ("a [b: 3 ]", [("a ", 3), ("a b", 7)]),
    ("a [[[b]]:2]", [("a ", 2), ("a [[b]]", 8)]),
    ("[(a:2):3]", [("", 3), ("(a:2)", 7)]),
    ("a [b : c : 1] d", [("a b  d", 1), ("a  c  d", 9)]),
    ("a[b:[c:d:2]:1]e", [("abe", 1), ("ace", 1), ("ade", 8)]),
    ("a [unbalanced", [("a [unbalanced", 10)]),
    ("a [b:.5] c", [("a  c", 5), ("a b c", 5)]),
    ("((a][:b:c [d:3]", [("((a][:b:c ", 3), ("((a][:b:c d", 7)]),
    # From, to, and either of them left out.
    ("a [cat:dog:0.5]", [("a cat", 5), ("a dog", 5)]),
    ("a [cat:dog:4]", [("a cat", 4), ("a dog", 6)]),
    ("[cat::0.3]s", [("cats", 3), ("s", 7)]),
    ("[:cat:0.3]s", [("s", 3), ("cats", 7)]),
    ("[:0.3]s", [("s", 10)]),
    # A decimal point makes a fraction; without one it is a number of steps.
    ("[a:b:1]", [("a", 1), ("b", 9)]),
    ("[a:b:1.0]", [("a", 10)]),
    ("[a:b:0.25]", [("a", 2), ("b", 8)]),
    ("[a:b:0.29]", [("a", 2), ("b", 8)]),
    ("[a:b:0]", [("b", 10)]),
    ("[a:b:0.0]", [("b", 10)]),
    ("[a:b:-3]", [("b", 10)]),
    ("[a:b:+3]", [("a", 3), ("b", 7)]),
    ("[a:b:99]", [("a", 10)]),
    ("[a:b:7.5]", [("a", 10)]),
    ("[a:b:1e1]", [("a", 10)]),
    ("[a:b:1e999]", [("a", 10)]),
    # Alternation, the first text at the first step.
    ("[a|b]", [(text, 1) for text in "ab" * 5]),
    ("[a|(b:1.1)]", [(text, 1) for text in ["a", "(b:1.1)"] * 5]),
    ("[fe|]male", [(text, 1) for text in ["female", "male"] * 5]),
    (
        "[fe|||]male",
        [("female", 1), ("male", 3), ("female", 1), ("male", 3), ("female", 1), ("male", 1)],
    ),
    ("[a|b|c] d", [(f"{text} d", 1) for text in "abcabcabca"]),
    ("[|a]", [(text, 1) for text in ["", "a"] * 5]),
    ("[|]", [("", 10)]),
    # One inside of the other. Both count the picture's steps: the inner b is never on.
    ("[a|[b|c]]", [(text, 1) for text in "ac" * 5]),
    ("[[a|b]:c:4]", [("a", 1), ("b", 1), ("a", 1), ("b", 1), ("c", 6)]),
    ("[a:[b|c]:4]", [("a", 4), ("b", 1), ("c", 1), ("b", 1), ("c", 1), ("b", 1), ("c", 1)]),
    ("[x [a:b:3]|y]", [(text, 1) for text in ["x a", "y"] + ["x a", "y"] + ["x b", "y"] * 3]),
    ("([a:b:3]:1.2)", [("(a:1.2)", 3), ("(b:1.2)", 7)]),
    ("[a] [b:c:5]", [("[a] b", 5), ("[a] c", 5)]),
    # Escapes are passed on for the weights to read, and hide what they escape.
    (r"[a\:b:c:5]", [(r"a\:b", 5), ("c", 5)]),
    (r"[a\]:b:5]", [(r"a\]", 5), ("b", 5)]),
    (r"\[a:b:5\]", [(r"\[a:b:5\]", 10)]),
    # What only looks like it.
    ("[a]", [("[a]", 10)]),
    ("[a:b]", [("[a:b]", 10)]),
    ("[a:b:]", [("[a:b:]", 10)]),
    ("[a:b:c]", [("[a:b:c]", 10)]),
    ("[a:b:c:5]", [("[a:b:c:5]", 10)]),
    ("[a:b:5.5.5]", [("[a:b:5.5.5]", 10)]),
    ("[a:b:5 6]", [("[a:b:5 6]", 10)]),
    ("(a:b:5)", [("(a:b:5)", 10)]),
    ("[(a:b:c):d:5]", [("[(a:b:c):d:5]", 10)]),
    ("[]", [("[]", 10)]),
    # A bracket too many is text; what is whole beside it still counts.
    ("[[a:b:3]", [("[a", 3), ("[b", 7)]),
    ("[a:b:3]]", [("a]", 3), ("b]", 7)]),
    # Not covered by webui's grammar, and so text from end to end.
    ("a | b [c:d:5]", [("a | b [c:d:5]", 10)]),
    ("[a|b:5]", [("[a|b:5]", 10)]),
    ("[a:b:5] \\", [("[a:b:5] \\", 10)]),
]


@pytest.mark.parametrize(("prompt", "stretches"), EMPHASIS)
def test_weights(prompt: str, stretches: list[list[tuple[str, float]]]) -> None:
    found = emphasised(prompt)
    assert [[span.text for span in spans] for spans in found] == [
        [text for text, _ in spans] for spans in stretches
    ]
    weights = [span.weight for spans in found for span in spans]
    assert weights == pytest.approx([weight for spans in stretches for _, weight in spans])


@pytest.mark.parametrize(("prompt", "runs"), SCHEDULES)
def test_schedules(prompt: str, runs: list[tuple[str, int]]) -> None:
    assert sum(count for _, count in runs) == 10
    assert texts_by_step(prompt, 10) == [text for text, count in runs for _ in range(count)]


def test_webui_s_long_example() -> None:
    prompt = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6][: in background:0.25] [shoddy:masterful:0.5]"
    )
    texts = texts_by_step(prompt, 100)
    begin = "fantasy landscape with a "
    expected = {
        (1, 25): "mountain and an oak in foreground shoddy",
        (26, 50): "lake and an oak in foreground in background shoddy",
        (51, 60): "lake and an oak in foreground in background masterful",
        (61, 75): "lake and an oak in background masterful",
        (76, 100): "lake and a christmas tree in background masterful",
    }
    for (first, last), text in expected.items():
        assert set(texts[first - 1 : last]) == {begin + text}


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_fractions_of_other_numbers_of_steps(steps: int) -> None:
    texts = texts_by_step("[a:b:0.5]", steps)
    assert texts == ["a"] * (steps // 2) + ["b"] * (steps - steps // 2)


def test_a_prompt_without_the_syntax_is_itself() -> None:
    generator = random.Random(0)
    letters = "abc ,.:|{}<>_-+=*&#@!?/'\"0123456789\n\té苹"
    for _ in range(300):
        prompt = "".join(generator.choices(letters, k=generator.randint(1, 40)))
        assert [(span.text, span.weight) for span in emphasised(prompt)[0]] == [(prompt, 1.0)]
        assert set(texts_by_step(prompt, 3)) == {prompt}


def test_nothing_that_can_be_typed_is_an_error() -> None:
    generator = random.Random(1)
    pieces = ["[", "]", "(", ")", ":", "|", "\\", "a", " ", "0.5", "9" * 400, "BREAK", "\n", "-"]
    for _ in range(300):
        prompt = "".join(generator.choices(pieces, k=generator.randint(1, 30)))
        texts = texts_by_step(prompt, 4)
        assert len(texts) == 4
        for text in set(texts):
            for spans in emphasised(text):
                assert all(abs(span.weight) < 1e7 for span in spans)  # finite, and no NaN


@pytest.mark.parametrize("part", ["(", "[", "[a|", "[a:", "(a:", ")", "]", "\\", "[a|b]", "(a:9)"])
def test_hostile_lengths(part: str) -> None:
    prompt = part * 3000 + "]" * 3000
    assert len(texts_by_step(prompt, 2)) == 2
    assert emphasised(prompt)
