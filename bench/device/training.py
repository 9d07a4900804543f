"""The time that is left over: the bundled model's diffusion stage trained on, from its weights."""

import contextlib
import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import EngineError

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "models" / "pocket" / "source"
WORK = ROOT / "models" / "pocket" / "training" / "work"
_PART = 15_000_000  # bytes of a file


def start_data(share: float) -> subprocess.Popen[bytes]:
    """Draw and encode the scenes to learn from, or a share of them, beside other work."""
    WORK.mkdir(parents=True, exist_ok=True)
    for part in ("vae", "text_encoder", "tokenizer"):
        shutil.copytree(SOURCE / part, WORK / part, dirs_exist_ok=True)
    log = (WORK / "latents.log").open("wb")
    command = [*_stage("latents"), "--share", str(share)]
    return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def train(minutes: float, rate: float, limit: float) -> None:
    """Go on from `work/diffusion.pt`, else from the shipped weights; both end at `minutes`.

    limit: seconds after which it is ended; what it has written by then counts. Raises EngineError
    where that is nothing.
    """
    begun = time.time()
    command = [*_stage("diffusion"), "--begin", str(SOURCE), "--lr", str(rate)]
    log = (WORK / "diffusion.log").open("wb")
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [*command, "--minutes", f"{minutes:.2f}"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            timeout=limit,
            check=True,
        )
    state = WORK / "diffusion.pt"
    if not state.is_file() or state.stat().st_mtime < begun:
        raise EngineError(f"the training wrote no state in {limit:.0f} s; see {log.name}")


def curve() -> dict[str, Any]:
    """The first and the last line of the training's curve, as numbers; none of a short one."""
    if not (WORK / "diffusion.csv").is_file():
        return {}
    with (WORK / "diffusion.csv").open(newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return {"first": rows[0], "last": rows[-1]} if rows else {}


def save(folder: Path) -> list[str]:
    """Write the state that `work/diffusion.pt` resumes from, in parts to be joined by `cat`.

    In 16 bits: the optimizer's moments as bfloat16, for their range, the weights as float16.
    """
    import io

    import torch

    state = torch.load(WORK / "diffusion.pt", map_location="cpu")
    kept = {
        name: _in_16_bits(value, torch.bfloat16 if name == "optimizer" else torch.float16)
        for name, value in state.items()
    }
    buffer = io.BytesIO()
    torch.save(kept, buffer)
    content, names = buffer.getvalue(), []
    for number, begin in enumerate(range(0, len(content), _PART), 1):
        names.append(f"diffusion.pt-{number}")
        (folder / names[-1]).write_bytes(content[begin : begin + _PART])
    return names


def _in_16_bits(value: Any, kind: Any) -> Any:
    """Tensors of floats in a state, but for single numbers, as another type."""
    if isinstance(value, dict):
        return {key: _in_16_bits(one, kind) for key, one in value.items()}
    if isinstance(value, list):
        return [_in_16_bits(one, kind) for one in value]
    floats = hasattr(value, "is_floating_point") and value.is_floating_point() and value.ndim
    return value.to(kind) if floats else value


def _stage(name: str) -> list[str]:
    return [sys.executable, "-m", f"models.pocket.training.{name}"]
