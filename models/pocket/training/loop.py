"""What the autoencoder's and the diffusion model's training loops share: clock, rate, state.

Both stages run alone or as the equal workers of `torchrun --nproc-per-node N -m ...`. On a CPU that
other work shares, two workers of one thread each lose less than one worker of two threads: they
wait for each other once a step, not once an operator.
"""

import csv
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed as dist


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware has it (CUDA); float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def join_workers() -> tuple[int, int]:
    """Join the group that torchrun started, if it did; (rank, number of workers)."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return dist.get_rank(), dist.get_world_size()


def average_over_workers(tensors: Iterable[torch.Tensor]) -> None:
    """Replace each tensor by its mean over the workers, in place; one message for all of them."""
    if not dist.is_initialized():
        return
    tensors = list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


class Clock:
    """Time spent training, as a share of a budget.

    A step that takes far longer than its neighbours means that the process was stopped or the
    machine slept; such a step counts as an ordinary one, so a pause does not eat the budget.
    """

    def __init__(self, minutes: float) -> None:
        self.budget = 60.0 * minutes
        self.spent = 0.0
        self._usual: float | None = None
        self._last = time.monotonic()

    def tick(self) -> float:
        """Count the step that just ended; the share of the budget spent, up to 1."""
        now = time.monotonic()
        step, self._last = now - self._last, now
        if self._usual is not None:
            step = min(step, 4.0 * self._usual)
        self._usual = step if self._usual is None else 0.9 * self._usual + 0.1 * step
        spent = torch.tensor([self.spent + step], dtype=torch.float64)
        average_over_workers([spent])  # the workers must agree on when to stop
        self.spent = spent.item()
        return self.share

    @property
    def share(self) -> float:
        return min(1.0, self.spent / self.budget)


def learning_rate(peak: float, share: float, step: int, warmup: int = 100) -> float:
    """Linear warm-up over `warmup` steps, then a cosine from `peak` to 2% of it at share 1."""
    cosine = 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * share))
    return peak * cosine * min(1.0, (step + 1) / warmup)


def append_row(path: Path, row: dict[str, float]) -> None:
    """Add one line to a CSV of curves, with a header when the file is new."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        if new:
            writer.writeheader()
        writer.writerow(row)


def save_state(path: Path, state: dict) -> None:
    """Write `state` beside `path`, then swap it in, so that a kill never leaves half a file."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
