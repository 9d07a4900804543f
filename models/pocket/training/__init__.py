"""How `models/pocket` was trained, stage by stage.

Run from the repository root, in this order:

    python -m models.pocket.training.data
    python -m models.pocket.training.tokenizer
    python -m models.pocket.training.autoencoder --minutes 18
    python -m models.pocket.training.decoder --minutes 8
    python -m models.pocket.training.latents
    python -m models.pocket.training.diffusion --minutes 48
    python -m models.pocket.training.bundle
    python -m models.pocket.training.sheet
    python -m models.pocket.training.curves

The training stages (autoencoder, decoder, diffusion) pick up where they were stopped. They also run
as equal workers: `torchrun --nproc-per-node 2 -m models.pocket.training.diffusion`.

Every stage writes under `models/pocket/training/work/`, which git ignores. The end of the chain is
`work/checkpoint/`, an ordinary diffusers folder that `StableDiffusionPipeline` opens;
`bundle` converts it into `models/pocket`, and `sheet` paints with what stands there.
"""

from pathlib import Path

WORK = Path(__file__).parent / "work"
