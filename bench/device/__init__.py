"""The runtime on an NVIDIA GPU that is at hand for minutes only, and once.

On the machine that one works at: `python -m pleinair.bench device` packs what a bare machine with
an NVIDIA GPU, Python 3.12 and torch lacks, in pieces that are carried there one by one. There, in a
checkout: `python3 bench/device/run.py --output FOLDER`, which needs no network and ends by itself
within nine minutes. `--stand-in` tries the whole of it on a machine without a GPU: the CPU computes
in its place.

`run.py` installs, `session.py` goes through the steps (`steps.py`, `training.py`) while there is
time, and `report.py` writes what they found.
"""
