"""What `speed` measures, and how it is shown: figures, a roofline, memory by stage, a chart."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from PIL import Image

from pleinair.runtime.errors import EngineError

from . import chart, machine, roofline
from .configuration import Configuration
from .painting import seconds_a_step
from .process import run_fresh
from .progress import bars
from .rounds import Measure, Record, Rounds
from .turns import Turn, Turns

_STAGES = ("open", "load", "encode", "denoise", "decode")


def _stage(name: str) -> Measure:
    return lambda record: statistics.median(picture[name] for picture in record["pictures"])


def _seconds_a_picture(record: Record) -> float:
    """Without opening and compiling, which is done once."""
    calls = (picture["total"] - picture["load"] for picture in record["pictures"])
    return statistics.median(calls) / record["batch"]


# Column -> its value in what `painting.paint` measured.
MEASURES: dict[str, Measure] = {
    "open and compile s": lambda record: record["ready"] + record["pictures"][0]["load"],
    "encode s": _stage("encode"),
    "s a step, mean": seconds_a_step,
    "decode s": lambda record: (_stage("decode")(record) or 0.0) / record["batch"],
    "s a picture": _seconds_a_picture,
    "peak memory GB": lambda record: record["peak_memory"] and record["peak_memory"] / 1e9,
}
MEMORY: dict[str, Measure] = {
    f"{stage} GB": lambda record, stage=stage: (
        record["memory"][stage] / 1e9 if stage in record["memory"] else None
    )
    for stage in _STAGES
}


@dataclass
class Report:
    """What was measured: pictures and peaks in turn, and each configuration's arithmetic.

    tallies: name -> what `tally.tally` counted, {} where it could not.
    """

    configurations: Mapping[str, Configuration]
    machine: dict[str, Any]
    options: Mapping[str, Any]
    turns: Turns = field(default_factory=lambda: Turns(Rounds("", {})))
    tallies: dict[str, dict[str, Any]] = field(default_factory=dict)

    def measure(self, shared: dict[str, Any]) -> None:
        self._count(shared)
        turns = {name: self._peak_turn(name, shared) for name in self._peaks()}
        for name, one in self.configurations.items():
            turns[name] = Turn(f"{__package__}.painting:paint", one.job(shared))
        self.turns.take(turns, self.options["rounds"], _told)

    def _count(self, shared: dict[str, Any]) -> None:
        """Once for all configurations that compute the same; what cannot be counted stays {}."""
        known: dict[Any, dict[str, Any]] = {}
        with bars() as progress:
            task = progress.add_task("counting", total=len(self.configurations))
            for name, one in self.configurations.items():
                if one.computes not in known:
                    try:
                        counted = run_fresh(f"{__package__}.tally:tally", one.job(shared))
                    except EngineError as error:
                        counted = {"error": str(error)}
                    known[one.computes] = counted
                self.tallies[name] = known[one.computes]
                progress.advance(task)

    def _peaks(self) -> dict[str, dict[str, Any]]:
        """Name -> what a peak is measured with: each engine's and device's, float and int8."""
        return {
            one.peak(int8): {
                "engine": one.engine,
                "device": one.device,
                "precision": one.computing,
                "int8": int8,
            }
            for one in self.configurations.values()
            for int8 in (False, True)
        }

    def _peak_turn(self, name: str, shared: dict[str, Any]) -> Turn:
        job = self._peaks()[name] | {"threads": shared["threads"]}
        return Turn(f"{__package__}.peak:measure", job)

    def check(self) -> None:
        """Raise EngineError where no picture was painted."""
        if not self.pictures().records:
            raise self.turns.nothing()

    def pictures(self, measures: Mapping[str, Measure] = MEASURES) -> Rounds:
        """The painted ones; the first configuration of all is what the others are held against."""
        records = [
            record | {"batch": self.configurations[record["name"]].batch}
            for record in self.turns.rounds.records
            if record["name"] in self.configurations
        ]
        return Rounds(next(iter(self.configurations)), measures, records)

    def peaks(self) -> Rounds:
        names = self._peaks()
        records = [record for record in self.turns.rounds.records if record["name"] in names]
        return Rounds("", {"peak GFLOP/s": lambda record: record["flops"] / 1e9}, records)

    def roofline(self) -> list[roofline.Row]:
        """A row for each graph of each configuration."""
        measured = {(one["name"], one["round"]): one["flops"] for one in self.peaks().records}
        found = []
        for name, one in self.configurations.items():
            records = [record for record in self.pictures().records if record["name"] == name]
            peaks = {
                record["round"]: (
                    measured.get((one.peak(False), record["round"])),
                    measured.get((one.peak(True), record["round"])),
                )
                for record in records
            }
            found += roofline.rows(name, records, self.tallies.get(name, {}), peaks)
        return found

    def as_json(self) -> dict[str, Any]:
        wanted = {name: one.words() | one.way.called for name, one in self.configurations.items()}
        hidden = {"run", "json", "markdown", "picture"}
        return {
            "machine": self.machine,
            "options": {key: value for key, value in self.options.items() if key not in hidden},
            "configurations": wanted,
            "skipped": self.turns.skipped,
            **self.pictures().as_json(),
            "tallies": self.tallies,
            "peaks": self.peaks().as_json()["records"],
            "roofline": [asdict(row) for row in self.roofline()],
        }

    def markdown(self) -> str:
        parts = [machine.sentence(self.machine), self._about(), self.pictures().markdown()]
        rows = self.roofline()
        if rows:
            parts += [
                "Arithmetic counted from the graphs, against the peaks that the same engine "
                "reached in large matrix products in the same rounds:",
                roofline.markdown(rows),
            ]
        if self.peaks().records:
            parts.append(self.peaks().markdown())
        memory = self.pictures(MEMORY)
        if memory.records:
            parts += ["The most resident memory by stage:", memory.figures()]
        parts += [f"{name}: skipped: {why}" for name, why in self.turns.skipped.items()]
        uncounted = {name: one["error"] for name, one in self.tallies.items() if "error" in one}
        parts += [
            f"{name}: arithmetic not counted: {why}"
            for name, why in uncounted.items()
            if name not in self.turns.skipped
        ]
        return "\n\n".join(parts)

    def _about(self) -> str:
        """What is the same for all configurations."""
        words = [one.words() for one in self.configurations.values()]
        same = [words[0][axis] for axis in words[0] if len({one[axis] for one in words}) == 1]
        given = self.options
        scheduler = given["scheduler"] or "the model's own scheduler"
        return (
            f"{given['model']}: {', '.join([*same, scheduler])}, {given['threads']} threads. Each "
            f"in a fresh process, in turn; {given['warm_up']} steps of warm-up, then "
            f"{given['repeats']} timed; median (range over the rounds)."
        )

    def draw(self) -> Image.Image:
        """Seconds a picture by stage, and the rates of the heaviest graphs under the peaks."""
        pictures, spreads = self.pictures(), self.pictures().spreads()
        seconds = []
        for name, columns in spreads.items():
            whole = columns["s a picture"]
            records = [record for record in pictures.records if record["name"] == name]
            seconds.append(chart.Bar.of(name, _by_stage(records), whole))
        rates = [
            chart.Bar.of(f"{row.name}: {row.part}", {"rate": row.rate.median}, row.rate)
            for row in roofline.heavy(self.roofline())
            if row.rate
        ]
        marks = {
            name: spread.median
            for name, columns in self.peaks().spreads().items()
            if (spread := columns["peak GFLOP/s"])
        }
        return chart.draw(
            [
                chart.Panel("Seconds a picture", "s", seconds),
                chart.Panel("Arithmetic of the graphs, and the peaks", "GFLOP/s", rates, marks),
            ]
        )


def _by_stage(records: list[Record]) -> dict[str, float]:
    """Seconds a picture: medians over all calls."""
    stages = {
        "encode": lambda picture: picture["encode"],
        "denoise": lambda picture: sum(picture["steps"]),
        "decode": lambda picture: picture["decode"],
    }
    return {
        name: statistics.median(
            value(picture) / record["batch"] for record in records for picture in record["pictures"]
        )
        for name, value in stages.items()
    }


def _told(record: Record) -> str:
    if "pictures" not in record:
        return f"{record['flops'] / 1e9:,.0f} GFLOP/s"
    calls = [picture["total"] - picture["load"] for picture in record["pictures"]]
    return f"{statistics.median(calls):.1f} s a call, {seconds_a_step(record):.2f} s a step"
