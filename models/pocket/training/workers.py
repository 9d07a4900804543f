"""Equal workers that train one model together, started by `torchrun --nproc-per-node N -m ...`.

On a CPU that other work shares, two workers of one thread each lose less than one worker of two
threads: they wait for each other once a step, not once an operator.
"""

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist


def join_workers() -> tuple[int, int]:
    """Join the group that torchrun started, if it did; (rank, number of workers)."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    # A stopped worker is no dead one: training must outlast a long pause.
    dist.init_process_group("gloo", timeout=timedelta(days=1))
    return dist.get_rank(), dist.get_world_size()


def is_first_worker() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


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
