"""How `models/pocket` was trained, stage by stage.

Run from the repository root, in this order:

    python -m models.pocket.training.data
    python -m models.pocket.training.tokenizer
    python -m models.pocket.training.text_encoder --minutes 3
    python -m models.pocket.training.autoencoder --minutes 68
    python -m models.pocket.training.latents
    python -m models.pocket.training.diffusion --minutes 232 --lr 1e-3
    python -m models.pocket.training.diffusion --minutes 275 --lr 3e-3 --singles 0.4
    python -m models.pocket.training.decoder --minutes 6
    python -m models.pocket.training.few_step --minutes 13
    python -m models.pocket.training.tiny_decoder --minutes 5
    python -m models.pocket.training.text_distillation --minutes 33
    python -m models.pocket.training.bundle
    python -m models.pocket.training.classifier --minutes 41
    python -m models.pocket.training.evaluate
    python -m models.pocket.training.sheets
    python -m models.pocket.training.curves

The training stages (text_encoder, autoencoder, diffusion, decoder, few_step, tiny_decoder,
text_distillation, classifier) pick up where they were stopped. They also run as equal workers:
`torchrun --nproc-per-node 2 -m models.pocket.training.diffusion`.

Every stage writes under `models/pocket/training/work/`, which git ignores. `work/checkpoint/`, and
`work/text_distillation/` after it, are ordinary diffusers folders that `StableDiffusionPipeline`
opens; `bundle` converts the latter into `models/pocket`, `evaluate` judges what stands there,
`sheets` paints with it.
"""

from pathlib import Path

WORK = Path(__file__).parent / "work"
