"""The fields of webui's text: `name: value` pairs on the line that begins with `Steps: `."""

import json
import re
from collections.abc import Iterator

# Fewer fields than this, and the last line is part of the prompt: webui's own rule.
_FEWEST = 3
# More are nobody's; a line of them is read in moments however it is nested.
_MOST = 1000
_DECODER = json.JSONDecoder(strict=False)  # extensions write values of several lines


def split(text: str) -> tuple[list[str], dict[str, str]]:
    """The lines of the prompts, and the fields.

    Behind the line of fields some extensions write lines of their own, `Template: …`: these are
    fields, too, each to the end of its line.
    """
    lines = text.strip().split("\n")
    for i in range(len(lines) - 1, -1, -1):
        if lines[i].lstrip().startswith("Steps: ") and len(fields := _read(lines[i:])) >= _FEWEST:
            return lines[:i], fields
    if len(fields := _read(lines[-1:])) >= _FEWEST:
        return lines[:-1], fields
    return lines, {}


def named(pairs: str) -> dict[str, str]:
    """webui's "name: value, name: value" inside a value, such as that of `Lora hashes`."""
    halves = (pair.rpartition(":") for pair in pairs.split(","))
    return {name.strip(): said.strip() for name, _, said in halves if name.strip() and said.strip()}


def quoted(value: object) -> str:
    """A value as it stands on the line: as a JSON string where it would end too soon."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n]", text) else text


def _read(lines: list[str]) -> dict[str, str]:
    text = "\n".join(lines)
    pairs, end = [], 0
    for name, value, end in _pairs(text):
        pairs.append((name, value))
        if len(pairs) == _MOST or text.startswith("\n", end):
            break
    for line in text[end:].split("\n"):
        name, colon, value = line.partition(":")
        if colon and name.strip():
            pairs.append((name.strip(), value.strip()))
    return dict(pairs[:_MOST])


def _pairs(text: str) -> Iterator[tuple[str, str, int]]:
    """Name, value and where the value ends. One with a comma in it stands as JSON.

    Walked by hand: a regular expression takes hours for what a prankster writes.
    """
    position = 0
    while (colon := text.find(":", position)) >= 0:
        stop = re.compile("[,\n]").search(text, colon)
        end = stop.start() if stop else len(text)
        value = text[colon + 1 : end].strip()
        if value[:1] in ('"', "[", "{"):
            value, after = _unquoted(text, text.index(value[0], colon), value)
            stop = re.compile("[,\n]").search(text, max(after, colon))
            end = stop.start() if stop else len(text)
        name = text[position:colon].rpartition(",")[2].strip()
        if name:
            yield name, value, end
        if stop is None or text[end] == "\n":
            return
        position = end + 1


def _unquoted(text: str, start: int, otherwise: str) -> tuple[str, int]:
    """The JSON that starts there, and where it ends; `otherwise` where it is none."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return otherwise, start
    return value if isinstance(value, str) else text[start:end], end
