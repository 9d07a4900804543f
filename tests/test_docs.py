"""What the pages say of the tree is so: paths, flags, rooms and their imports, the help."""

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# What bench makes for itself; git ignores it.
WORK = ROOT / "bench" / "work"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--\w[\w-]*")
# Any room may import these.
COMMON = {"errors", "files"}
# Scripts of other projects, whose flags we take.
FOREIGN = {"txt2img.py", "img2img.py", "scripts/txt2img.py"}


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Paths, links and flags.


def paths(text: str) -> Iterator[str]:
    """What stands in backticks and looks like a file or folder of this repository."""
    rooms = r"(?:\.ci|bench|docs|export|models/pocket|runtime|serve|tests)"
    for quoted in re.findall(r"`([^`\n]+)`", text):
        path = quoted.partition("::")[0]
        if re.fullmatch(rf"{rooms}/[\w./-]*|[\w/]+\.py", path):
            yield path


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_paths_exist(page: Path) -> None:
    files = {
        path.name for room in ("runtime", "export", "serve", "tests") for path in sources(room)
    }
    for path in paths(text_of(page)):
        if path.startswith("bench/work/") or path in FOREIGN:
            continue
        inside = [ROOT / room / path for room in ("", "runtime", "tests", "models/pocket/training")]
        assert path in files or any(there.exists() for there in inside), path


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text_of(page)):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "name", ["README.md", *(f"docs/{page}.md" for page in ("gallery", "models", "painting"))]
)
def test_flags_are_those_of_the_commands(name: str) -> None:
    known = set(FLAG.findall(text_of(DOCS / "help.md")))
    assert set(FLAG.findall(text_of(ROOT / name))) - {"--help"} <= known


# The help.


@cache
def writer(name: str) -> ModuleType:
    """The script that writes a page."""
    spec = importlib.util.spec_from_file_location(f"{name}_page", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = list(writer("help").PARSERS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_what_the_command_says(command: str) -> None:
    """Where it fails: python docs/help.py."""
    assert writer("help").section(command) in text_of(DOCS / "help.md")


def test_the_help_has_these_commands_alone() -> None:
    assert re.findall(r"^## (.+)$", text_of(DOCS / "help.md"), re.MULTILINE) == COMMANDS


# The reference for programs.


@pytest.mark.parametrize(("page", "function"), [("api", "api"), ("from-diffusers", "migration")])
def test_a_page_for_programs_is_what_the_sources_say(page: str, function: str) -> None:
    """Where it fails: python docs/api.py."""
    assert getattr(writer("api"), function)() == text_of(DOCS / f"{page}.md")


# Rooms and their imports.


def sources(room: str) -> list[Path]:
    files = [file for file in (ROOT / room).rglob("*.py") if not file.is_relative_to(WORK)]
    assert len(files) > 10, room
    return files


def imported(file: Path) -> Iterator[Path]:
    """The files of the same room that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue  # inside a room imports are relative
        module = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        for alias in node.names:
            found = next(filter(None, (as_file(module / alias.name), as_file(module))))
            if found != file:
                yield found


def as_file(module: Path) -> Path | None:
    known = (module.with_name(f"{module.name}.py"), module / "__init__.py")
    return next((file for file in known if file.exists()), None)


def room_of(file: Path) -> str:
    """`denoise` of runtime/denoise/noise.py, `plan` of runtime/plan.py."""
    return Path(file.relative_to(ROOT).parts[1]).stem


@cache
def files_imported(room: str) -> Mapping[Path, set[Path]]:
    return {file: set(imported(file)) for file in sources(room)}


def rooms_imported() -> dict[str, set[str]]:
    """Room of the runtime -> other rooms that its files import."""
    rooms: dict[str, set[str]] = {}
    for file, others in files_imported("runtime").items():
        if file != ROOT / "runtime" / "__init__.py":
            rooms.setdefault(room_of(file), set()).update(map(room_of, others))
    return {room: others - {room} for room, others in rooms.items()}


def table() -> dict[str, set[str]]:
    """Room -> what it may import, as docs/architecture.md has it."""
    row = re.compile(r"^\| `runtime/(\w+)(?:/|\.py)` \| .+ \| ?(.*) \|$", re.MULTILINE)
    found = row.findall(text_of(DOCS / "architecture.md"))
    return {room: set(re.findall(r"`(\w+)`", may)) for room, may in found}


def test_every_room_of_the_runtime_is_in_the_table() -> None:
    assert set(table()) == set(rooms_imported())


def test_rooms_import_what_the_table_allows() -> None:
    for room, others in rooms_imported().items():
        assert others <= table()[room] | COMMON, room


def circles(graph: Mapping[object, set[object]]) -> list[set[object]]:
    """The sets of two nodes and more that reach each other."""
    reached: dict[object, set[object]] = {}
    for node in graph:
        seen, ahead = set(), [node]
        while ahead:
            for other in graph.get(ahead.pop(), set()) - seen:
                seen.add(other)
                ahead.append(other)
        reached[node] = seen
    found: list[set[object]] = []
    for node, seen in reached.items():
        circle = {other for other in seen if node in reached.get(other, set())}
        if circle and circle not in found:
            found.append(circle)
    return found


def test_a_circle_is_found() -> None:
    chain = {1: {2}, 2: {3}, 3: {2}, 4: {1}}
    assert circles(chain) == [{2, 3}]
    assert circles({1: {2}, 2: {3}, 3: set()}) == []


def test_no_rooms_import_each_other() -> None:
    assert circles(rooms_imported()) == []
    assert circles(table()) == []


@pytest.mark.parametrize("room", ["runtime", "export", "bench", "serve"])
def test_no_files_import_each_other(room: str) -> None:
    found = [
        {file.relative_to(ROOT).as_posix() for file in circle}
        for circle in circles(files_imported(room))
    ]
    assert not found


def test_few_files_lie_at_the_top_of_the_runtime() -> None:
    loose = {file.name for file in (ROOT / "runtime").glob("*.py")} - {"__init__.py"}
    assert len(loose) <= 8
