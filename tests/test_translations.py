"""Pages in Chinese say what the English ones say: the same commands, sections, tables, options."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "README.zh.md", "docs/first-steps.md": "docs/first-steps.zh.md"}


@pytest.fixture(params=PAGES)
def pages(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A page in English and in Chinese."""
    english, chinese = request.param, PAGES[request.param]
    return (ROOT / english).read_text(encoding="utf-8"), (ROOT / chinese).read_text("utf-8")


def code(page: str) -> list[str]:
    return re.findall(r"^```\w*\n.*?^```$", page, re.MULTILINE | re.DOTALL)


def prose(page: str) -> str:
    return re.sub(r"^```\w*\n.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


def headings(page: str) -> list[str]:
    return re.findall(r"^(#+) ", prose(page), re.MULTILINE)


def tables(page: str) -> tuple[list[str], list[str]]:
    """What needs no translating in a page's tables: options and names, and figures."""
    text = "\n".join(re.findall(r"^\|.+\|$", page, re.MULTILINE))
    return re.findall(r"`[^`]+`", text), re.findall(r"\d[\d.]*", text)


def links(page: str) -> set[str]:
    """Where it leads to; to a page in the reader's language where there is one."""
    found = re.findall(r"\]\(([^)]+)\)", prose(page))
    return {link.replace(".zh.md", ".md") for link in found if not link.startswith("README")}


def test_the_commands_are_the_same(pages: tuple[str, str]) -> None:
    english, chinese = map(code, pages)
    assert english == chinese
    assert len(english) > 5


def test_the_sections_are_the_same(pages: tuple[str, str]) -> None:
    english, chinese = map(headings, pages)
    assert english == chinese


def test_the_tables_are_the_same(pages: tuple[str, str]) -> None:
    english, chinese = map(tables, pages)
    assert english == chinese


def test_the_links_are_the_same(pages: tuple[str, str]) -> None:
    english, chinese = map(links, pages)
    other_language = {"first-steps.md"}
    assert english - other_language == chinese - other_language


def test_they_lead_to_each_other() -> None:
    for english, chinese in PAGES.items():
        assert f"]({Path(chinese).name})" in (ROOT / english).read_text(encoding="utf-8")
        assert f"]({Path(english).name})" in (ROOT / chinese).read_text(encoding="utf-8")
