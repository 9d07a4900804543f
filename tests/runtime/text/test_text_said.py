"""What of a prompt is not painted is said in one line: unknown tags, undrawn wildcards."""

import logging
from dataclasses import dataclass, field

import pytest

from pleinair.runtime.errors import PromptError
from pleinair.runtime.text.prompt import joined, tokenized


@dataclass
class Reader:
    """A tokenizer that remembers the texts."""

    texts: list[str] = field(default_factory=list)
    length: int = 1
    dropped: tuple[str, ...] = ()

    def __call__(self, text: str) -> "Reader":
        self.texts.append(text)
        return self


def said(prompt: str, caplog: pytest.LogCaptureFixture, syntax: str = "webui") -> list[str]:
    """The lines, the first of them the text that is painted."""
    reader = Reader()
    with caplog.at_level(logging.INFO, "pleinair"):
        joined(reader, prompt, 4, syntax)
    return [*reader.texts, *(record.message for record in caplog.records)]


@pytest.mark.parametrize(
    ("prompt", "painted", "line"),
    [
        ("a boat <hypernet:x:1>", "a boat", "painted without <hypernet:x:1>: of such tags"),
        ("<segment:face> a boat", "a boat", "painted without <segment:face>: of such tags"),
        ("a boat <lora:ink:0.8>", "a boat", "painted without <lora:ink:0.8>: LoRA files are named"),
        ("a {red|blue} boat", "a {red|blue} boat", "{red|blue} is painted as text; --wildcards"),
        ("a {2$$red} boat", "a {2$$red} boat", "{2$$red} is painted as text; --wildcards draws"),
        ("a __colour__ boat", "a __colour__ boat", "__colour__ is painted as text; --wildcards"),
    ],
)
def test_what_is_not_painted_is_named(
    prompt: str, painted: str, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    text, told = said(prompt, caplog)
    assert text == painted
    assert told.startswith(line)
    caplog.clear()
    assert said(prompt, caplog, "plain") == [prompt]


@pytest.mark.parametrize("prompt", ["a {red} boat", "a < b: c > d", "x <3 :)", "snake_case__", "{"])
def test_text_is_text(prompt: str, caplog: pytest.LogCaptureFixture) -> None:
    assert said(prompt, caplog) == [prompt]


def test_kinds_are_named_together(caplog: pytest.LogCaptureFixture) -> None:
    _, told = said("<a:1> boat <b:2> <a:1>", caplog)
    assert told.startswith("painted without <a:1>, <b:2>: ")


def test_a_prompt_of_a_megabyte_is_refused_before_it_is_read() -> None:
    reader = Reader()
    with pytest.raises(PromptError, match=r"1,000,000 characters .* shorten it"):
        tokenized(reader, "a" * 1_000_000, 4)
    assert reader.texts == []
