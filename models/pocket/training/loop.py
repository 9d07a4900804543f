"""The training loop of every stage: data to loss to AdamW step, curves, state to resume from."""

import argparse
import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn
from torch.optim.swa_utils import AveragedModel

from . import WORK
from .clock import Clock
from .workers import average_over_workers, join_workers

WARMUP_STEPS = 100
LAST_RATE = 0.02  # of the peak
LOG_EVERY_STEPS = 50
SAVE_EVERY_MINUTES = 5.0


class Data(Protocol):
    """What a stage trains on: endless batches, in an order that the seed fixes."""

    def seed(self, seed: int) -> None: ...


#: From the data, the batch size and the share of the time spent to named scalars; "loss" is
#: minimised, the others are written to the curves.
Losses = Callable[[Data, int, float], dict[str, torch.Tensor]]


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bfloat16 on CUDA, float32 elsewhere."""
    device = pick_device()
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def parse_options(
    minutes: float, batch: int, rate: float, **own: tuple[float, str]
) -> argparse.Namespace:
    """The command line that the training stages share, with a stage's own defaults.

    own: further options of a stage, each with its default and what it means.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=minutes, help="pauses do not count")
    parser.add_argument("--batch", type=int, default=batch, help="of all workers together")
    parser.add_argument("--lr", type=float, default=rate, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    for name, (default, meaning) in own.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=meaning)
    return parser.parse_args()


@torch.no_grad()
def start_as_identity(module: nn.Module) -> None:
    """Zero the last layer of each residual block, so that at first signals just pass through.

    Zhang et al. 2019 (Fixup) and Dhariwal and Nichol 2021 do so; here the autoencoder gained
    3 dB in its first minute by it.
    """
    for part in module.modules():
        if isinstance(part, ResnetBlock2D):
            nn.init.zeros_(part.conv2.weight)
        elif isinstance(part, Transformer2DModel):
            nn.init.zeros_(part.proj_out.weight)


def learning_rate(peak: float, share: float, step: int) -> float:
    """Linear warm-up over the first steps, then a cosine from `peak` to 2% of it at share 1."""
    cosine = LAST_RATE + (1.0 - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * share))
    return peak * cosine * min(1.0, (step + 1) / WARMUP_STEPS)


def train(
    stage: str,
    module: nn.Module,
    data: Data,
    losses: Losses,
    options: argparse.Namespace,
    average: AveragedModel | None = None,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Train the parameters of `module` that require gradients, until the time is spent.

    Keeps `work/<stage>.csv` (curves) and `work/<stage>.pt` (state), and calls `save` after each
    writing of the state. `average` follows the weights; `save` runs on the first worker only.
    """
    rank, workers = join_workers()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=options.lr, betas=(0.9, 0.99), fused=True)
    clock, step = Clock(options.minutes), 0
    state_path, curves_path = WORK / f"{stage}.pt", WORK / f"{stage}.csv"
    if options.resume and state_path.exists():
        state = torch.load(state_path, map_location=pick_device())
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])
        clock.spent, step = state["spent"], state["step"]
    elif rank == 0:
        curves_path.unlink(missing_ok=True)
    stream = 1000 * (options.seed + step) + rank  # one stream a worker, a new one on each resume
    torch.manual_seed(stream)
    data.seed(stream)

    def write_state() -> None:
        state = {
            "module": module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": None if average is None else average.state_dict(),
            "spent": clock.spent,
            "step": step,
        }
        part = state_path.with_suffix(".part")  # a kill must not leave half a file
        torch.save(state, part)
        part.replace(state_path)
        save()

    recent: list[dict[str, float]] = []
    between_saves = 60.0 * min(SAVE_EVERY_MINUTES, options.minutes / 3.0)
    next_save = clock.spent + between_saves
    while clock.share < 1.0:
        scalars = losses(data, options.batch // workers, clock.share)
        optimizer.zero_grad(set_to_none=True)
        scalars["loss"].backward()
        average_over_workers(parameter.grad for parameter in trained)
        nn.utils.clip_grad_norm_(trained, 1.0)
        rate = learning_rate(options.lr, clock.share, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        if average is not None:
            average.update_parameters(module)
        tick_together(clock)
        step += 1
        recent.append({name: scalar.item() for name, scalar in scalars.items()})
        if step % LOG_EVERY_STEPS == 0 and rank == 0:
            append_curves(curves_path, step, clock.spent, rate, recent)
        if step % LOG_EVERY_STEPS == 0:
            recent.clear()
        if clock.spent >= next_save:
            next_save += between_saves
            if rank == 0:
                write_state()
    if rank == 0:
        write_state()


def tick_together(clock: Clock) -> None:
    """Tick, and agree with the other workers on the time spent: they must stop at one step."""
    clock.tick()
    spent = torch.tensor([clock.spent], dtype=torch.float64)
    average_over_workers([spent])
    clock.spent = spent.item()


def append_curves(
    path: Path, step: int, spent: float, rate: float, recent: list[dict[str, float]]
) -> None:
    """Add a line with the means of the recent scalars to a CSV, and print it."""
    row = {"step": step, "minutes": round(spent / 60.0, 3), "lr": round(rate, 7)}
    for name in recent[0]:
        row[name] = round(sum(scalars[name] for scalars in recent) / len(recent), 5)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)
