"""What `models/pocket`'s own judge says of pictures that were painted from its prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pleinair.runtime.errors import SettingError, to_install

from .markdown import table

_DRAWS = 200


@dataclass(frozen=True)
class Recognition:
    """The judge: its module, its fixed prompts, its classifier, and the icons of real renders."""

    evaluate: Any
    prompts: Sequence[Any]
    read: Any
    icons: Any

    @classmethod
    def open(cls, number: int) -> "Recognition":
        """With the first `number` prompts; SettingError where the training code is not here."""
        try:
            from pleinair.models.pocket.training import evaluate
        except ImportError as error:
            raise SettingError(
                f"--recognition needs a checkout, installed with: {to_install('pocket')} ({error})"
            ) from None
        if number < len(evaluate.ROUND):
            raise SettingError(f"number is {number}; recognition needs {len(evaluate.ROUND)}")
        prompts = list(islice(evaluate.prompts(), number))
        return cls(evaluate, prompts, evaluate.load_classifier().read, evaluate.open_icons())

    def judge(self, pictures: Sequence[np.ndarray]) -> Any:
        """The `Evaluation` of pictures painted from the prompts, in their order."""
        shown = iter(pictures)

        def repaint(prompt: str, *, seed: int) -> Any:
            return SimpleNamespace(images=[Image.fromarray(next(shown))])

        return self.evaluate.evaluate(repaint, self.prompts, self.read)

    def report(self, painted: Mapping[str, Sequence[np.ndarray]]) -> tuple[dict[str, Any], str]:
        """Of each way's pictures, for the JSON file and in words; the first is the reference."""
        evaluations = {name: self.judge(pictures) for name, pictures in painted.items()}
        (reference, first), *others = evaluations.items()
        facts = {name: self._facts(own) for name, own in evaluations.items()}
        real = self.evaluate.real_features(first, self.icons, self.read, 1)
        parts = []
        for name, own in others:
            pairs = self.evaluate.compare(first, own)
            facts[name]["frechet_change_interval95"] = distance_change(first, own, real)
            facts[name]["compared"] = {row: pair.as_json() for row, pair in pairs.items()}
            parts.append(self.evaluate.comparison_table(pairs, reference, name))
        header = ["way", "top-1 seen", "held-out", "all", "Fréchet distance", f"less {reference}'s"]
        rows = [[name, *_cells(own, facts[name])] for name, own in evaluations.items()]
        about = (
            "Right in per cent (95 % Wilson interval), and the same pictures compared (Newcombe's "
            "interval, McNemar's p); distances to real renders, whose difference has a 95 % "
            f"bootstrap interval of {_DRAWS} draws."
        )
        return facts, "\n\n".join([about, table(header, rows), *parts])

    def _facts(self, evaluation: Any) -> dict[str, Any]:
        distance = self.evaluate.distribution(evaluation, self.icons, self.read)
        return {"right": evaluation.as_json()["right"], "frechet": distance}


def _cells(evaluation: Any, facts: Mapping[str, Any]) -> list[Any]:
    shares = evaluation.shares()
    top1 = [shares[row]["top1"] if row in shares else None for row in ("seen", "held-out", "all")]
    change = facts.get("frechet_change_interval95")
    words = f"{change[0]:+.3f} to {change[1]:+.3f}" if change else None
    return [*top1, f"{facts['frechet']['painted']:.3f}", words]


def distance_change(first: Any, second: Any, real: np.ndarray) -> tuple[float, float]:
    """95 % interval of the second's Fréchet distance to `real` less the first's.

    Percentile bootstrap (Efron 1979) over prompts, drawn alike for all three: the distance's bias
    at small n is then in both, and falls out of the difference.
    """
    from pleinair.models.pocket.training.metrics import frechet_distance

    random, number = np.random.default_rng(0), len(real)
    sides = first.reading.features, second.reading.features
    changes = []
    for _ in range(_DRAWS):
        drawn = random.integers(0, number, number)
        one, other = (frechet_distance(side[drawn], real[drawn]) for side in sides)
        changes.append(other - one)
    low, high = np.percentile(changes, (2.5, 97.5))
    return float(low), float(high)
