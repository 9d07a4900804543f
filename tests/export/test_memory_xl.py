"""Stable Diffusion XL's shape is exported and painted with; what memory that takes is printed.

python -m pytest -m slow -s tests/export/test_memory_xl.py

The tiny shape takes half a minute, in processes of its own; what it would find otherwise,
test_export_xl.py finds. The true shape takes six minutes, 18 GB of memory to be painted with and 15
on the disk.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pleinair.bench import memory

pytestmark = pytest.mark.slow

_PEAK = """
import json, sys, time
from pleinair.bench import memory
start = time.monotonic()
def tell(**more):
    print(json.dumps({"peak": memory.peak(), "seconds": time.monotonic() - start, **more}))
"""
_EXPORT = """
from pleinair.export import export_model
export_model(sys.argv[1], sys.argv[2])
tell()
"""
_STEP = """
from pleinair.runtime import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1], engine="openvino", profile="exact")
out = pipe("a cat", "a dog", seed=1, num_inference_steps=1, guidance_scale=5)
tell(size=out.images[0].size, step=out.timings.steps[0])
"""


def _measured(code: str, *arguments: Path) -> dict[str, float]:
    command = [sys.executable, "-c", _PEAK + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=7200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("shape", "side", "limit", "painting"),
    [("tiny-xl", 64, 4e9, 4e9), ("sdxl", 1024, 5e9, 22e9)],
)
@pytest.mark.skipif(memory.peak() is None, reason="this system does not tell the peak memory")
def test_export_and_one_step(
    tmp_path: Path, shape: str, side: int, limit: float, painting: float
) -> None:
    checkpoint, folder = tmp_path / "checkpoint", tmp_path / "model"
    command = [sys.executable, "-m", "pleinair.bench", "fixture", str(checkpoint)]
    subprocess.run([*command, "--shape", shape], check=True, timeout=3600)
    exported = _measured(_EXPORT, checkpoint, folder)
    painted = _measured(_STEP, folder)
    for what, facts in (("export", exported), ("one guided step", painted)):
        print(f"{shape}, {what}: {facts['peak'] / 1e9:.1f} GB, {facts['seconds']:.0f} s")
    assert painted["size"] == [side, side]
    assert exported["peak"] < limit
    assert painted["peak"] < painting
    manifest = json.loads((folder / "pleinair.json").read_text(encoding="utf-8"))
    assert manifest["parity"].keys() >= {"text_encoder_2", "unet"}
    for graph in manifest["parity"].values():
        assert graph["openvino"]["max_rel"] < 1e-4
