"""Draw the training curves, one panel a stage, as `work/curves.png`."""

import csv

import matplotlib.pyplot as plt

from . import WORK

CURVES = {"autoencoder": "l1", "decoder": "l1", "diffusion": "loss"}


def read_column(stage: str, column: str) -> tuple[list[int], list[float]]:
    with (WORK / f"{stage}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["step"]) for row in rows], [float(row[column]) for row in rows]


def main() -> None:
    figure, panels = plt.subplots(1, len(CURVES), figsize=(12, 4), layout="constrained")
    for panel, (stage, column) in zip(panels, CURVES.items(), strict=True):
        panel.plot(*read_column(stage, column), linewidth=0.8)
        panel.set(title=stage, xlabel="step", ylabel=column, yscale="log")
    figure.savefig(WORK / "curves.png", dpi=100)


if __name__ == "__main__":
    main()
