"""Write docs/api.md from the docstrings, and docs/from-diffusers.md from the errors' own table.

    python docs/api.py

Signatures are those of the sources, so that both pages are the same with every version of Python.
"""

import ast
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE, MIGRATION = ROOT / "docs" / "api.md", ROOT / "docs" / "from-diffusers.md"

HEAD = """\
# In a program: the reference

`python docs/api.py` writes this page from the docstrings, and a test compares it with them.
[painting.md](painting.md) says what the options are for, [from-diffusers.md](from-diffusers.md)
what a script for diffusers has to change.

```python
from pleinair.runtime import StableDiffusionPipeline

with StableDiffusionPipeline.from_pretrained("models/pocket") as pipe:
    out = pipe("a red apple", seed=1)
    out.images[0].save("apple.png")
```

A number may be numpy's; a picture may be a path, the bytes of a file, an open file, a PIL picture
or an array. A value of a wrong type or out of its range is a `SettingError` that names the
argument; an argument that there is not is a `TypeError`.
"""

MIGRATION_HEAD = """\
# From diffusers

`python docs/api.py` writes this page from the table that the errors are made of, and a test
compares them.

A script moves over by its import. These are the same here: `from_pretrained`, the arguments of a
call under diffusers' names ([api.md](api.md) has them all), `out.images`,
`out.nsfw_content_detected`, `callback_on_step_end`, the noise of a seed, and with it the picture.

```python
from pleinair.runtime import StableDiffusionPipeline  # from diffusers import …

pipe = StableDiffusionPipeline.from_pretrained("models/mine")  # made by pleinair-export
image = pipe("a red apple", negative_prompt="blurry", num_inference_steps=25, seed=1).images[0]
```

What differs: a checkpoint is converted once, by `pleinair-export`. A seed is a number, and image i
is painted from `seed + i`. Schedulers are named in the call. LoRA files, textual inversion and
ControlNets are named when the model is opened. `cache_dir` is where compiled models are kept. One
pipeline paints from text, from a picture (`image`) and in one (`image` and `mask_image`).

Whatever else a script says is taken, or is an error of one line that says what to write instead:
"""

ENTRIES: Mapping[str, Mapping[str, list[str]]] = {
    "The pipeline": {
        "runtime/pipeline.py": [
            "StableDiffusionPipeline",
            "StableDiffusionPipeline.from_pretrained",
            "StableDiffusionPipeline.plan",
            "StableDiffusionPipeline.enlarge",
            "StableDiffusionPipeline.paint_async",
            "StableDiffusionPipeline.warm_up",
            "StableDiffusionPipeline.start_noise",
            "StableDiffusionPipeline.preview",
            "StableDiffusionPipeline.to",
            "StableDiffusionPipeline.close",
        ],
        "runtime/engines/shelf.py": ["Shelf", "Shelf.clear"],
    },
    "What a call gives": {
        "runtime/output.py": ["PipelineOutput", "PipelineOutput.nsfw_content_detected", "Timings"],
        "runtime/plan.py": ["Plan", "Plan.paint", "Plan.evaluations"],
        "runtime/record/saving.py": ["save"],
    },
    "Schedulers: `pleinair.runtime.schedulers`": {
        "runtime/schedulers/catalog.py": ["from_config", "names"]
    },
    "Noise: `pleinair.runtime.denoise.noise`": {
        "runtime/denoise/noise.py": ["TorchNoise", "TorchNoise.__init__", "TorchNoise.normal"]
    },
    "Errors: `pleinair.runtime.errors`": {
        "runtime/errors.py": [
            "PleinairError",
            "BundleError",
            "AdapterError",
            "EngineError",
            "PromptError",
            "SchedulerError",
            "SettingError",
            "SourceError",
            "ExportError",
        ]
    },
    "Converting: `pleinair.export`": {"export/model.py": ["export_model"]},
}
"""Heading -> file -> what of it is public."""

_ITEM = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (.*)")


def api() -> str:
    """The whole of docs/api.md."""
    parts = [HEAD]
    for heading, files in ENTRIES.items():
        parts.append(f"## {heading}\n")
        for file, names in files.items():
            parts += [entry(file, name) for name in names]
    return "\n".join([*parts, "## Every option of a call\n", *options()])


def entry(file: str, name: str) -> str:
    """A class or function: its signature and its docstring."""
    node = found(ast.parse((ROOT / file).read_text(encoding="utf-8")), name.split("."))
    text = f"### `{name}`\n"
    attribute = any(ast.unparse(one) == "property" for one in node.decorator_list)
    if not isinstance(node, ast.ClassDef) and not attribute:
        text += f"\n```python\n{signature(node)}\n```\n"
    docstring = ast.get_docstring(node)
    assert docstring, f"{file}: {name} has no docstring"
    return f"{text}\n{marked(docstring)}"


def found(node: Any, path: list[str]) -> Any:
    for name in path:
        node = next(one for one in node.body if getattr(one, "name", None) == name)
    return node


def signature(node: Any) -> str:
    """As in the source, an argument a line where there are several."""
    arguments = node.args
    own = [one for one in arguments.args if one.arg not in ("self", "cls")]
    defaults = [None] * (len(own) - len(arguments.defaults)) + arguments.defaults
    words = [argument(one, value) for one, value in zip(own, defaults, strict=True)]
    if arguments.vararg:
        words.append(f"*{argument(arguments.vararg)}")
    elif arguments.kwonlyargs:
        words.append("*")
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    words += [argument(one, value) for one, value in named]
    if arguments.kwarg:
        words.append(f"**{argument(arguments.kwarg)}")
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    end = f" -> {unquoted(node.returns)}" if node.returns else ""
    line = f"{start} {node.name}({', '.join(words)}){end}"
    if len(line) <= 88:
        return line
    inner = "".join(f"    {word},\n" for word in words)
    return f"{start} {node.name}(\n{inner}){end}"


def argument(one: ast.arg, value: Any = None) -> str:
    words = one.arg + (f": {unquoted(one.annotation)}" if one.annotation else "")
    return f"{words} = {ast.unparse(value)}".replace("'", '"') if value is not None else words


def unquoted(annotation: ast.AST) -> str:
    """A type, without the quotes of one that is defined later."""
    return ast.unparse(annotation).strip("'")


def marked(docstring: str) -> str:
    """A docstring as Markdown: what it says of an argument becomes an item."""
    lines: list[str] = []
    for line in inspect.cleandoc(docstring).splitlines():
        item = _ITEM.fullmatch(line)
        if item:
            names = ", ".join(f"`{name}`" for name in item[1].split(", "))
            if lines and lines[-1] and not lines[-1].startswith(("- ", "  ")):
                lines.append("")
            lines.append(f"- {names}: {item[2]}")
        elif line.startswith("    "):
            lines.append(f"  {line.strip()}")
        else:
            if line and lines and lines[-1].startswith(("- ", "  ")):
                lines.append("")
            lines.append(line)
    return "\n".join(lines) + "\n"


def options() -> Iterable[str]:
    """Tables of the declared options, a group each."""
    from pleinair.runtime.families import GROUPS
    from pleinair.runtime.options.option import declared

    every = [one for group in GROUPS for one in declared(group).values()]
    named = {flag: one.name for one in every for flag in one.flags}
    for group in GROUPS:
        if not declared(group):
            continue
        file = inspect.getsourcefile(group)
        assert file is not None
        node = found(ast.parse(Path(file).read_text(encoding="utf-8")), [group.__name__])
        types = {one.target.id: ast.unparse(one.annotation) for one in node.body if annotated(one)}
        yield f"### {inspect.getdoc(group).splitlines()[0]}\n"
        yield "| argument | type | default | |\n|---|---|---|---|"
        for name, one in declared(group).items():
            cells = f"`{name}`", f"`{types[name]}`", f"`{one.default!r}`", described(one, named)
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        yield ""


def described(one: Any, named: Mapping[str, str]) -> str:
    """An option's help with the names of arguments; its default stands in a column of its own."""
    help = re.sub(r" \(default[^()]*\)", "", one.help)
    words = re.sub(r"--[\w-]+", lambda flag: f"`{named.get(flag[0], flag[0])}`", help)
    if one.choices and not all(choice in words for choice in one.choices()):
        words = ": ".join(filter(None, (words, ", ".join(one.choices()))))
    return words


def annotated(node: ast.AST) -> bool:
    return isinstance(node, ast.AnnAssign)


def migration() -> str:
    """The whole of docs/from-diffusers.md."""
    from pleinair.runtime.options import migration as table

    parts = [MIGRATION_HEAD]
    for heading, names in (
        ("Arguments of a call", table.CALL),
        ("Arguments of `from_pretrained`", table.OPENING),
        ("Methods and attributes of a pipeline", table.ATTRIBUTES),
        ("Other classes", table.CLASSES),
    ):
        parts.append(f"## {heading}\n\n| diffusers | here |\n|---|---|")
        parts += rows(names)
        parts.append("")
    parts.append("## Taken, and nothing to do\n\n| diffusers | because |\n|---|---|")
    parts += [f"| `{name}` | {reason} |" for name, reason in table.NOTHING.items()]
    classes = ", ".join(f"`{name}`" for name in sorted(table.PIPELINES))
    parts.append(f"\nThese classes are `Pipeline`, which opens a model of any kind:\n{classes}.\n")
    return "\n".join(parts)


def rows(table: Mapping[str, Any]) -> Iterable[str]:
    """One for each thing to do, with the names that it is for."""
    groups: dict[Any, list[str]] = {}
    for name, otherwise in table.items():
        groups.setdefault(otherwise, []).append(f"`{name}`")
    for otherwise, names in groups.items():
        taken = ", ".join(f"`{value}`" for value in otherwise.same)
        yield f"| {', '.join(names)} | {otherwise.here}{f'; taken: {taken}' if taken else ''} |"


def main() -> None:
    PAGE.write_text(api(), encoding="utf-8", newline="\n")
    MIGRATION.write_text(migration(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
