"""What can compute a model on this machine: engines with their graphs, and numbers of threads."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..engines import cores
from ..engines.choice import Setup
from ..errors import BundleError
from ..families.family import Family
from ..speed.profiles import PROFILES, Profile
from ..speed.tuning import installed


@dataclass(frozen=True)
class Candidate:
    """A profile's graphs on a setup."""

    profile: str
    setup: Setup

    def __str__(self) -> str:
        return f"{self.profile}, {described(self.setup)}"


def described(setup: Setup) -> str:
    """A setup in words."""
    count = setup.threads
    words = "its own threads" if count is None else f"{count} thread{'s' * (count > 1)}"
    return f"{setup.engine}, {words}"


def candidates(family: Family) -> dict[str, list[Candidate]]:
    """Profile -> what can compute it here, of all profiles that the folder holds the graphs of.

    First comes what computes it untuned: OpenVINO, where it can, with its own choice of threads.
    """
    found = {}
    for name, profile in PROFILES.items():
        setups = [
            Setup(engine, threads)
            for engine in _engines(family, profile)
            for threads in _thread_counts()
        ]
        if setups:
            found[name] = [Candidate(name, setup) for setup in setups]
    return found


def _engines(family: Family, profile: Profile) -> Iterator[str]:
    formats = {"openvino": "openvino" if "openvino" in family.bundle.graphs else "onnx"}
    if "onnx" in family.bundle.graphs:
        formats["onnxruntime"] = "onnx"
    for engine, form in formats.items():
        try:
            profile.files(family.bundle, form, family.denoiser)
        except BundleError:
            continue
        if installed(engine):
            yield engine


def _thread_counts() -> list[int | None]:
    """The engine's own choice, all hardware threads, all cores, and halves of those down to one;
    of a processor with cores of two kinds those for performance alone, which engines take first.

    So few, because in a container with a share of a large machine they are all that runs at once.
    """
    physical = cores.physical_cores()
    counts = {physical >> i for i in range(physical.bit_length())} | {cores.hardware_threads()}
    if performance := cores.performance_cores():
        counts.add(performance)
    return [None, *sorted(counts, reverse=True)]
