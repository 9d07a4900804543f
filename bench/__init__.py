"""The scales: measures what the runtime costs, alone and beside the systems it has to pass.

Every command is a file with `add_to(commands)`; `python -m pleinair.bench --help` lists them.
What is timed runs in a fresh process (`process.py`, `worker.py`), one job a process, so that
start-up and peak memory are measured and nothing stays warm from the one before; and all take turns
(`turns.py`), round after round, so that drift of the machine hits all alike.
"""
