"""How `models/pocket` was trained, stage by stage.

Run from the repository root, in this order:

    python -m models.pocket.training.data
    python -m models.pocket.training.tokenizer
    python -m models.pocket.training.autoencoder --minutes 20
    python -m models.pocket.training.diffusion --minutes 60
    python -m models.pocket.training.sheet

Every stage writes under `models/pocket/training/work/`, which git ignores. The end of the chain is
`work/checkpoint/`, an ordinary diffusers folder that `StableDiffusionPipeline` opens.
"""

from pathlib import Path

WORK = Path(__file__).parent / "work"
