"""What a session found: all of it as JSON, and a section of a page in Markdown."""

import json
from pathlib import Path
from typing import Any

from .. import machine
from ..markdown import table


def write(folder: Path, results: dict[str, Any]) -> None:
    """results.json and results.md."""
    text = json.dumps(results, indent=1) + "\n"
    (folder / "results.json").write_text(text, encoding="utf-8")
    (folder / "results.md").write_text(markdown(results) + "\n", encoding="utf-8")


def markdown(results: dict[str, Any]) -> str:
    """The section "CPU against GPU"."""
    found = {name: one.get("found") or {} for name, one in results.items()}
    parts = ["## CPU against GPU", "```bash\npython3 bench/device/run.py --output FOLDER\n```"]
    facts = found.get("machine", {})
    if "cpu" in facts:
        memory = f", {facts['memory'] / 1e9:.0f} GB" if "memory" in facts else ""
        parts.append(f"{facts['gpu']}{memory}. {machine.sentence(facts)}")
    parts += _pocket(found.get("pocket", {}))
    parts += _rates(found, results.get("asked", {}))
    if "markdown" in (speed := found.get("speed", {})):
        _, _, measured = speed["markdown"].strip().partition("\n\n")  # the machine stands above
        parts += [measured, "![The CPU beside the GPU](chart.png)"]
    for name, what in (
        ("no provider", "Where CUDA does not start"),
        ("no memory", "Where the GPU's memory is short"),
    ):
        if "said" in (one := found.get(name, {})):
            parts.append(
                f'{what}, "auto" paints on {one["device"]} ({"; ".join(one["said"])}); "cuda" '
                f"says: {one['asked']}"
            )
    parts += _training(found.get("training", {}))
    parts += [f"{name}: {one['error']}" for name, one in found.items() if "error" in one]
    return "\n\n".join(parts)


def _pocket(found: dict[str, Any]) -> list[str]:
    if "f32" not in found:
        return []
    return [
        f'"auto" takes {found["device"]}. models/pocket on the GPU differs from the CPU by at most '
        f"{found['f32']} of 255 in f32 ({found['f32 dB']} dB), {found['f16']} in f16 "
        f"({found['f16 dB']} dB)."
    ]


def _rates(found: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    rows = [
        [name, f"{one['step'] * 1e3:.1f}", f"{one['decode'] * 1e3:.0f}", f"{one['picture']:.2f}"]
        for name, one in found.items()
        if "step" in one
    ]
    if not rows:
        return []
    columns = ["on the GPU", "ms a step", "decode ms", "prompt to picture s"]
    about = "Shape {shape}, {size}x{size}, {steps} steps, guidance 7.5:".format(**asked)
    return [about, table(columns, rows)]


def _training(found: dict[str, Any]) -> list[str]:
    if "minutes" not in found:
        return []
    if "last" not in found:
        return [f"models/pocket's diffusion stage, trained on for {found['minutes']:.1f} minutes."]
    first, last = found["first"], found["last"]
    return [
        f"models/pocket's diffusion stage, trained on for {found['minutes']:.1f} minutes: "
        f"{last['step'] - first['step']:,.0f} steps, loss {first['loss']:.4f} to "
        f"{last['loss']:.4f}."
    ]
