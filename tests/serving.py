"""What tests of the service share: a painter without a model, LoRA files for the bundled one."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from pleinair.runtime.errors import PleinairError
from pleinair.runtime.graphs.weights import shapes
from pleinair.runtime.model import catalog
from pleinair.runtime.output import PipelineOutput
from pleinair.serve.asked import Asked
from pleinair.serve.bounds import Bounds
from pleinair.serve.errors import Unknown

POCKET = catalog.bundled()


class Painter:
    """In the place of `Models`: pictures of one colour, in so many steps, at a test's pace.

    pace: called before each step with (asked, index, step). begun: (prompt, index) of every picture
    that was begun, in their order.
    """

    def __init__(
        self, steps: int = 4, pace: Callable[[Asked, int, int], object] = lambda *_: None
    ) -> None:
        self.steps, self.pace = steps, pace
        self.bounds = Bounds()
        self.begun: list[tuple[str, int]] = []
        self.closed = False

    def named(self, name: str | None) -> str:
        if name not in (None, "fake"):
            raise Unknown(f"there is no model {name!r} here", param="model")
        return "fake"

    def plan(self, asked: Asked, index: int = 0, **callbacks: Any) -> Any:
        self.bounds.check(asked)
        call = asked.call(index)

        def paint() -> PipelineOutput:
            self.begun.append((call["prompt"], index))
            for step in range(self.steps):
                callbacks["callback_on_stage"]("denoise", step, self.steps)
                self.pace(asked, index, step)
                callbacks["callback_on_step_end"](self, step, 0, {"pred_original_sample": None})
            callbacks["callback_on_stage"]("denoise", self.steps, self.steps)
            return PipelineOutput(images=[picture(call["seed"])], seeds=[call["seed"]])

        return SimpleNamespace(
            evaluations={"full": self.steps},
            guidance=SimpleNamespace(batches=[("conditional",)], between=("conditional",)),
            tiles=SimpleNamespace(tile=(8, 8), size=(8, 8)),
            prompts={},
            original=None,
            timesteps=range(self.steps),
            then=None,
            paint=paint,
        )

    def for_clients(self, error: PleinairError) -> str:
        return str(error)

    def described(self, asked: Asked, plan: Any) -> dict[str, Any]:
        return dict(asked.arguments)

    def preview(self, latents: object) -> Image.Image:
        return Image.new("RGB", (8, 8), "grey")

    def warm(self, sizes: object) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Gate:
    """Lets steps through, so many as a test says; `waiting` is set while one waits."""

    def __init__(self) -> None:
        self._steps = threading.Semaphore(0)
        self.waiting = threading.Event()

    def __call__(self, *_: object) -> None:
        self.waiting.set()
        assert self._steps.acquire(timeout=30), "nobody opened the gate"
        self.waiting.clear()

    def open(self, steps: int = 1_000_000) -> None:
        self._steps.release(steps)


def picture(seed: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (seed % 256, seed // 256 % 256, 7))


def asked(prompt: str = "a red apple", **more: Any) -> Asked:
    arguments = {"prompt": prompt, **more.pop("arguments", {})}
    return Asked(arguments=arguments, **{"seed": 1, **more})


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for what other threads bring about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


def pocket_lora(path: Path, seed: int) -> Path:
    """A LoRA file for the bundled model's attention, in diffusers' names."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes(POCKET / "unet" / "openvino_model.xml").items():
        if name.endswith("attn1.to_q.weight"):
            layer = f"unet.{name.removesuffix('.weight')}"
            tensors[f"{layer}.lora_A.weight"] = random.normal(size=(2, shape[1]))
            tensors[f"{layer}.lora_B.weight"] = random.normal(size=(shape[0], 2))
    assert tensors, "the model's layers are called otherwise"
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, path)
    return path
