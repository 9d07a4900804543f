"""What denoiser and decoder are really asked: inputs recorded while the exact pipeline paints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines.choice import choose
from pleinair.runtime.engines.protocol import Engine, Graph, Shapes
from pleinair.runtime.families.family import Family
from pleinair.runtime.graphs.edit import Edit

from .piecewise import PiecewiseEngine, is_large

Sample: TypeAlias = Mapping[str, NDArray[Any]]

# Pixels a side of a picture that a decoder is calibrated on: of 1024 it has feature maps of 1 GB,
# and what it makes of a part is the same but for its few attentions.
DECODED = 512


@dataclass
class Recorder:
    """An engine whose denoiser remembers what it is asked.

    denoiser: its graph's file.
    trajectories: for each picture the samples that the denoiser saw, one a step. Of a batch of
        branches that is one row, by turns: alone, rows are what the graph is calibrated on, and
        all branches are seen at every timestep.
    """

    engine: Engine
    denoiser: Path
    trajectories: list[list[Sample]] = field(default_factory=list)
    name: str = field(init=False)
    device: str = field(init=False)
    format: str = field(init=False)
    streams: int = field(init=False)
    threads: int | None = field(init=False)
    precision: str = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.device = self.engine.name, self.engine.device
        self.format, self.streams = self.engine.format, self.engine.streams
        self.precision, self.threads = self.engine.precision, self.engine.threads

    def compile(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> Graph:
        graph = self.engine.compile(path, shapes, edits)
        return _Recorded(graph, self.record) if path == self.denoiser else graph

    def record(self, feeds: Sample) -> None:
        current = self.trajectories[-1]
        batch = max(len(value) for value in feeds.values() if value.ndim)
        row = (len(current) + len(self.trajectories)) % batch
        current.append({name: _row(value, row, batch) for name, value in feeds.items()})


@dataclass(frozen=True)
class _Recorded:
    graph: Graph
    record: Callable[[Sample], None]

    def __call__(self, feeds: Sample) -> dict[str, NDArray[np.float32]]:
        self.record(feeds)
        outputs: dict[str, NDArray[np.float32]] = self.graph(feeds)
        return outputs


def _row(value: NDArray[Any], row: int, batch: int) -> NDArray[Any]:
    """One row of an input; a timestep, or what all rows share, is whole."""
    split = value.ndim > 0 and len(value) == batch
    return np.array(value[row : row + 1] if split else value)


@dataclass(frozen=True)
class Trajectories:
    """Samples to calibrate on, and others, of a picture that no sample comes from, to measure on.

    seen, held_out: part -> samples of its graph, each a mapping from input names to arrays.
    """

    seen: Mapping[str, list[Sample]]
    held_out: Mapping[str, list[Sample]]


def record(
    family: Family,
    prompts: Sequence[str],
    count: int,
    *,
    steps: int,
    side: int | None,
    tell: Callable[[], None],
) -> Trajectories:
    """Paint as the exact profile does, and keep `count` samples spread evenly over the timesteps.

    prompts: painted in turn, the i-th picture from seed i; the last picture is held out.
    steps: of each picture; no more than the model itself is painted with.
    side: of the pictures in pixels; None is what the model was made for.
    tell: called after each step.
    """
    bundle, denoiser = family.bundle, family.denoiser
    engine = choose(bundle.graphs, device="cpu", precision="f32")
    graph = bundle.graph(denoiser, engine.format)
    if is_large(graph):
        engine = PiecewiseEngine(engine.format)
    recorder = Recorder(engine, graph)
    pipe = StableDiffusionPipeline(family, recorder, profile="exact")
    steps = min(steps, family.recommended.steps)
    latents: list[Sample] = []
    for picture in range(pictures(count, steps)):
        recorder.trajectories.append([])
        output = pipe(
            prompts[picture % len(prompts)],
            seed=picture,
            width=side,
            height=side,
            num_inference_steps=steps,
            syntax="plain",
            long_prompt="truncate",
            output_type="latent",
            callback_on_step_end=lambda *_: tell(),
        )
        space = family.decoder_spaces["vae_decoder"]
        sample = space.to_decoder(output.images[0])
        latents.append({"latent_sample": _middle(sample, DECODED // space.factor)})
    *painted, last = recorder.trajectories
    asked = [sample for trajectory in painted for sample in trajectory]
    # Within a timestep by lot: what is left out must not always be the same picture's.
    asked = [asked[i] for i in np.random.default_rng(0).permutation(len(asked))]
    asked.sort(key=lambda sample: float(np.max(sample[family.timestep])))
    return Trajectories(
        seen={denoiser: spread(asked, count), "vae_decoder": latents[:-1]},
        held_out={denoiser: last, "vae_decoder": latents[-1:]},
    )


def _middle(sample: NDArray[Any], side: int) -> NDArray[Any]:
    """So many rows and columns of latents; all of them where there are fewer."""
    rows, columns = (max(0, (size - side) // 2) for size in sample.shape[-2:])
    return np.ascontiguousarray(sample[..., rows : rows + side, columns : columns + side])


def pictures(count: int, steps: int) -> int:
    """How many are painted for that many samples, the one held out included."""
    return -(-count // steps) + 1


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of the items, as evenly apart as can be; all of them where they are fewer."""
    if len(items) <= count:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]
