"""Which evaluations are of the full UNet, and what the shallow part is given in between."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from fakes import Counting
from pleinair.runtime.denoise.feature_cache import (
    SCHEDULES,
    Caching,
    Evaluation,
    FeatureCache,
    PredictionCache,
    Wanted,
    growing,
    uniform,
)
from pleinair.runtime.errors import SettingError
from pleinair.runtime.graphs.cut import DEEP_FEATURES
from pleinair.runtime.options.groups import CACHE_SCHEDULES, Reuse


def reuse(**changed: Any) -> Reuse:
    given = {
        "cache_interval": 3,
        "cache_level": "features",
        "cache_branch": 0,
        "cache_schedule": "uniform",
        "cache_guidance": "anew",
    }
    return Reuse(**{**given, **changed})


def test_every_choice_is_a_schedule() -> None:
    assert tuple(SCHEDULES) == CACHE_SCHEDULES


def test_schedules() -> None:
    assert list(uniform(7, 3)) == [0, 3, 6]
    assert list(uniform(8, 3)) == [0, 3, 6]
    assert growing(20, 4) == [0, 2, 5, 9, 14, 19]
    assert growing(8, 3) == [0, 2, 4, 7]
    assert growing(7, 3) == [0, 2, 6]
    assert growing(1, 3) == [0]


@pytest.mark.parametrize("interval", [2, 3, 4, 7, 30])
def test_growing_begins_and_ends_with_one_and_computes_as_many(interval: int) -> None:
    for total in range(1, 151):
        found = growing(total, interval)
        assert found == sorted(set(found))
        assert (found[0], found[-1]) == (0, total - 1)
        assert len(found) == len({*uniform(total - 1, interval), total - 1})


def test_an_interval_of_one_keeps_nothing() -> None:
    assert Caching.of(reuse(cache_interval=1), 5, "tree") is None
    assert Caching.of(reuse(cache_interval=1), 0, "tree") is None


def test_caching_as_asked_for() -> None:
    caching = Caching.of(reuse(cache_branch=2, cache_guidance="kept"), 5, "tree")
    assert caching == Caching(3, 2, "uniform", keeps_guidance=True)
    assert (caching.full.branch, caching.full.shallow) == (2, False)
    assert (caching.shallow.branch, caching.shallow.shallow) == (2, True)
    computed = [i for i in range(7) if caching.computes(Evaluation(i, 7))]
    assert computed == [0, 3, 6]


def test_predictions_are_kept_of_a_model_that_cannot_be_cut() -> None:
    """Guidance is in what is kept, so it is not kept apart."""
    asked = reuse(cache_level="prediction", cache_guidance="kept")
    assert Caching.of(asked, 0, "tree") == Caching(3, keeps_prediction=True)


@pytest.mark.parametrize(
    ("changed", "cuts", "message"),
    [
        ({"cache_interval": 0}, 5, "cache_interval is 0; give 1 or more"),
        ({"cache_interval": 1.5}, 5, r"cache_interval is 1\.5; give 1 or more"),
        ({}, 0, "cache_interval is 3; tree has no deep features to keep"),
        ({"cache_branch": 5}, 5, "cache_branch is 5; give 0 to 4, as tree has them"),
        ({"cache_branch": -1}, None, "cache_branch is -1; give 0 or more"),
    ],
)
def test_what_is_out_of_range(changed: dict[str, Any], cuts: int | None, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Caching.of(reuse(**changed), cuts, "tree")


def cache(interval: int = 3) -> tuple[FeatureCache, Counting, Counting]:
    full = Counting(lambda feeds: {"out": feeds["x"], DEEP_FEATURES: feeds["x"] + 100})
    shallow = Counting(lambda feeds: {"out": -feeds[DEEP_FEATURES]})
    return FeatureCache(Caching(interval), full, shallow), full, shallow


def value(number: float) -> Callable[[], dict[str, np.ndarray]]:
    return lambda: {"x": np.array([number], np.float32)}


def test_the_shallow_part_is_given_the_features_kept_last() -> None:
    kept, full, shallow = cache()
    tile = Wanted("tile", 0)
    found = [kept.predict(value(i), Evaluation(i, 6), tile).tolist() for i in range(6)]
    assert found == [[0], [-100], [-100], [3], [-103], [-103]]
    assert [feeds["x"][0] for feeds in full.fed] == [0, 3]
    assert [feeds["x"][0] for feeds in shallow.fed] == [1, 2, 4, 5]


def test_another_key_asks_the_full_graph_again() -> None:
    kept, full, _ = cache()
    keys = [0, 1, 1, 1, 0]
    for i, key in enumerate(keys):
        kept.predict(value(i), Evaluation(i, 5), Wanted("tile", key))
    assert [feeds["x"][0] for feeds in full.fed] == [0, 1, 3, 4]


def test_features_are_apart_for_each_tile_and_batch() -> None:
    kept, full, _ = cache()
    assert not kept.holds(Evaluation(1, 3), Wanted("left", 0))
    kept.predict(value(1), Evaluation(0, 3), Wanted("left", 0))
    kept.predict(value(2), Evaluation(0, 3), Wanted("right", 0))
    assert kept.holds(Evaluation(1, 3), Wanted("left", 0))
    assert not kept.holds(Evaluation(1, 3), Wanted("left", 1))
    assert not kept.holds(Evaluation(0, 3), Wanted("left", 0))  # it is to be computed there
    assert kept.predict(value(9), Evaluation(1, 3), Wanted("left", 0)).tolist() == [-101]
    assert kept.predict(value(9), Evaluation(1, 3), Wanted("right", 0)).tolist() == [-102]
    assert len(full.fed) == 2


def test_of_heun_both_looks_at_a_timestep_count() -> None:
    """An evaluation is a call of the denoiser: the interval runs over nine of five steps."""
    kept, full, shallow = cache(interval=2)
    for i in range(9):
        kept.predict(value(i), Evaluation(i, 9), Wanted("tile", 0))
    assert (len(full.fed), len(shallow.fed)) == (5, 4)


def test_kept_predictions_ask_nothing_in_between() -> None:
    graph = Counting(lambda feeds: {"out": feeds["x"] + 1})
    kept = PredictionCache(Caching(3, keeps_prediction=True), graph)
    made = []

    def feeds(number: int) -> dict[str, np.ndarray]:
        made.append(number)
        return value(number)()

    found = [
        kept.predict(partial(feeds, i), Evaluation(i, 6), Wanted("tile", i >= 5)).item()
        for i in range(6)
    ]
    assert found == [1, 1, 1, 4, 4, 6]  # the last was told something else
    assert made == [0, 3, 5]  # a ControlNet is asked for its residuals as often
    assert kept.predict(value(7), Evaluation(4, 6), Wanted("other tile", False)).item() == 8
