"""Draw the training curves, one panel for each stage that ran, as `work/curves.png`."""

import csv

import matplotlib.pyplot as plt

from . import WORK

#: Stage -> the column of its CSV that tells most.
CURVES = {
    "text_encoder": "loss",
    "autoencoder": "l1",
    "diffusion": "loss",
    "decoder": "l1",
    "few_step": "loss",
    "tiny_decoder": "loss",
    "text_distillation": "told",
    "classifier": "thing",
}


def read_column(stage: str, column: str) -> tuple[list[float], list[float]]:
    """Minutes of training, and the column."""
    with (WORK / f"{stage}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row["minutes"]) for row in rows], [float(row[column]) for row in rows]


def main() -> None:
    stages = {stage: name for stage, name in CURVES.items() if (WORK / f"{stage}.csv").exists()}
    if not stages:
        raise SystemExit(f"no stage has written a curve to {WORK} yet")
    size = (4 * len(stages), 3.2)
    figure, panels = plt.subplots(1, len(stages), figsize=size, layout="constrained", squeeze=False)
    for panel, (stage, column) in zip(panels[0], stages.items(), strict=True):
        panel.plot(*read_column(stage, column), linewidth=0.8)
        panel.set(title=stage, xlabel="minutes", ylabel=column, yscale="log")
    figure.savefig(WORK / "curves.png", dpi=80)


if __name__ == "__main__":
    main()
