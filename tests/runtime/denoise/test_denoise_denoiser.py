"""The denoiser asks a graph that is a function: what it is fed, how often, and what comes of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fakes import Counting
from pleinair.runtime.denoise.conditioning import Conditioning
from pleinair.runtime.denoise.denoiser import Denoiser, Network
from pleinair.runtime.denoise.feature_cache import Caching, Evaluation, FeatureCache, Uncached
from pleinair.runtime.denoise.guidance import (
    CONDITIONAL,
    PICTURE_ALONE,
    UNCONDITIONAL,
    Guidance,
    classifier_free,
    instructed,
)
from pleinair.runtime.graphs.cut import DEEP_FEATURES
from pleinair.runtime.model.tiles import Tiles

WORDS = {CONDITIONAL: 3.0, UNCONDITIONAL: 1.0, PICTURE_ALONE: 2.0}
SAMPLE = np.random.default_rng(0).normal(size=(1, 4, 6, 10)).astype(np.float32)
ONE = Tiles.covering((6, 10))


def told(key: int = 0, more: float = 0.0) -> Conditioning:
    branches = {
        branch: {"words": np.full((1, 2), value + more, np.float32)}
        for branch, value in WORDS.items()
    }
    return Conditioning(branches, dict.fromkeys(branches, key))


def predict(feeds: Any) -> np.ndarray:
    """The latents, times what the branch is told: so every row says of whom it is."""
    words = feeds["words"].mean(axis=1)[:, None, None, None]
    return feeds["x"][:, :4] * words


def plain() -> Counting:
    return Counting(lambda feeds: {"out": predict(feeds)})


def denoiser(graph: Any, guidance: Guidance, **more: Any) -> Denoiser:
    options = {"tiles": ONE, "beside": None, "steering": None, "tell": lambda *_: None, **more}
    network = Network(options.pop("cache", None) or Uncached(graph), sample="x", timestep="t")
    return Denoiser(network=network, guidance=guidance, **options)


def asked(graph: Counting) -> list[list[float]]:
    """For each call what its rows were told."""
    return [feeds["words"][:, 0].tolist() for feeds in graph.fed]


def test_without_guidance_the_conditional_branch_is_the_prediction() -> None:
    graph = plain()
    found = denoiser(graph, Guidance())(SAMPLE, 501, Evaluation(0, 4), told())
    np.testing.assert_array_equal(found, SAMPLE * 3)
    (feeds,) = graph.fed
    assert feeds.keys() == {"x", "t", "words"}
    assert feeds["t"].shape == ()
    assert feeds["t"] == 501


def test_branches_are_asked_in_one_batch_and_combined() -> None:
    graph = plain()
    found = denoiser(graph, classifier_free(5))(SAMPLE, 1, Evaluation(0, 4), told())
    np.testing.assert_allclose(found, SAMPLE * (1 + 5 * (3 - 1)), rtol=1e-6)
    assert asked(graph) == [[1, 3]]
    assert graph.fed[0]["x"].shape == (1, 4, 6, 10)  # one row stands for both


def test_where_guidance_does_not_act_half_is_asked() -> None:
    graph = plain()
    guidance = replace(classifier_free(5), start=0.25, stop=0.75)
    paint = denoiser(graph, guidance)
    found = [paint(SAMPLE, 1, Evaluation(i, 4), told()) for i in range(4)]
    assert asked(graph) == [[3], [1], [3], [1], [3], [3]]
    for i, times in enumerate((3, 11, 11, 3)):
        np.testing.assert_allclose(found[i], SAMPLE * times, rtol=1e-6)


def test_blind_branches_see_zeros_beside_the_latents() -> None:
    graph = plain()
    beside = np.full((1, 2, 6, 10), 7, np.float32)
    paint = denoiser(graph, instructed(5, 2), beside=beside)
    found = paint(SAMPLE, 1, Evaluation(0, 1), told())
    (feeds,) = graph.fed
    assert feeds["x"].shape == (3, 6, 6, 10)
    np.testing.assert_array_equal(feeds["x"][:, :4], np.repeat(SAMPLE, 3, axis=0))
    assert [np.unique(row).tolist() for row in feeds["x"][:, 4:]] == [[7], [7], [0]]
    assert feeds["words"][:, 0].tolist() == [3, 2, 1]
    np.testing.assert_allclose(found, SAMPLE * (1 + 5 * (3 - 2) + 2 * (2 - 1)), rtol=1e-6)


def test_blind_branches_asked_apart_see_zeros_too() -> None:
    graph = plain()
    beside = np.full((1, 2, 6, 10), 7, np.float32)
    guidance = replace(instructed(5, 2), start=0.5)
    paint = denoiser(graph, guidance, beside=beside)
    for i in range(2):
        paint(SAMPLE, 1, Evaluation(i, 2), told())
    assert [(f["words"][0, 0], f["x"][0, 5, 0, 0]) for f in graph.fed] == [
        (3, 7),
        (3, 7),
        (2, 7),
        (1, 0),
    ]


def test_tiles_are_asked_one_by_one_and_mixed() -> None:
    heard: list[tuple[Any, ...]] = []
    graph, tiles = plain(), Tiles.covering((6, 10), 6, 2)
    beside = np.arange(60, dtype=np.float32).reshape(1, 1, 6, 10)
    paint = denoiser(
        graph, classifier_free(5), tiles=tiles, beside=beside, tell=lambda *now: heard.append(now)
    )
    found = paint(SAMPLE, 1, Evaluation(1, 3), told())
    np.testing.assert_allclose(found, SAMPLE * 11, rtol=1e-5, atol=1e-5)
    assert len(graph.fed) == len(tiles.windows) == 2
    for feeds, (rows, columns) in zip(graph.fed, tiles.windows, strict=True):
        np.testing.assert_array_equal(feeds["x"][:, :4], SAMPLE[:, :, rows, columns])
        np.testing.assert_array_equal(feeds["x"][:, 4:], beside[:, :, rows, columns])
    assert heard == [("denoise", 2, 6), ("denoise", 3, 6)]


class Halves:
    """A full and a shallow graph; what each was asked, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[float]]] = []
        self.full, self.shallow = Counting(self._full), Counting(self._shallow)

    def _full(self, feeds: Any) -> dict[str, Any]:
        self.calls.append(("full", feeds["words"][:, 0].tolist()))
        return {DEEP_FEATURES: 100 * feeds["words"], "out": predict(feeds)}

    def _shallow(self, feeds: Any) -> dict[str, Any]:
        self.calls.append(("shallow", feeds["words"][:, 0].tolist()))
        return {"out": predict(feeds)}

    def denoiser(self, caching: Caching, guidance: Guidance, **more: Any) -> Denoiser:
        cache = FeatureCache(caching, self.full, self.shallow)
        return denoiser(None, guidance, cache=cache, **more)


def test_kept_features_are_those_of_their_own_batch() -> None:
    halves = Halves()
    paint = halves.denoiser(Caching(2), classifier_free(5))
    for i in range(4):
        paint(SAMPLE, 1, Evaluation(i, 4), told())
    assert halves.calls == [
        ("full", [1, 3]),
        ("shallow", [1, 3]),
        ("full", [1, 3]),
        ("shallow", [1, 3]),
    ]
    np.testing.assert_array_equal(halves.shallow.fed[0][DEEP_FEATURES][:, 0], [100, 300])


def test_kept_guidance_adds_what_was_found_last() -> None:
    halves = Halves()
    guidance = replace(classifier_free(5), kept=True)
    paint = halves.denoiser(Caching(2), guidance)
    found = [paint(SAMPLE * (i + 1), 1, Evaluation(i, 3), told()) for i in range(3)]
    assert halves.calls == [("full", [1, 3]), ("shallow", [3]), ("full", [1, 3])]
    np.testing.assert_array_equal(halves.shallow.fed[0][DEEP_FEATURES][:, 0], [300])
    np.testing.assert_allclose(found[0], SAMPLE * 11, rtol=1e-6)
    added = SAMPLE * (11 - 3)  # by guidance, to the conditional branch, in the first evaluation
    np.testing.assert_allclose(found[1], 2 * SAMPLE * 3 + added, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[2], 3 * SAMPLE * 11, rtol=1e-6)


def test_kept_guidance_is_found_anew_for_another_prompt() -> None:
    halves = Halves()
    paint = halves.denoiser(Caching(5), replace(classifier_free(5), kept=True))
    paint(SAMPLE, 1, Evaluation(0, 5), told())
    found = paint(SAMPLE, 1, Evaluation(1, 5), told(key=1, more=1))
    assert halves.calls[1:] == [("full", [2, 4])]
    np.testing.assert_allclose(found, SAMPLE * (2 + 5 * 2), rtol=1e-6)


def test_guidance_that_begins_between_full_evaluations_has_nothing_kept() -> None:
    halves = Halves()
    guidance = replace(classifier_free(5), start=0.5, kept=True)
    paint = halves.denoiser(Caching(4), guidance)
    for i in range(4):
        paint(SAMPLE, 1, Evaluation(i, 4), told())
    assert halves.calls == [
        ("full", [3]),
        ("shallow", [3]),
        ("full", [1]),  # it has no features yet
        ("shallow", [3]),
        ("shallow", [3]),
    ]


@pytest.mark.parametrize("kept", [False, True])
def test_each_tile_keeps_its_features(kept: bool) -> None:
    halves, tiles = Halves(), Tiles.covering((6, 10), 6, 2)
    paint = halves.denoiser(Caching(2), replace(classifier_free(5), kept=kept), tiles=tiles)
    found = [paint(SAMPLE, 1, Evaluation(i, 2), told()) for i in range(2)]
    for one in found:
        np.testing.assert_allclose(one, SAMPLE * 11, rtol=1e-5, atol=1e-5)
    kinds = [kind for kind, _ in halves.calls]
    assert kinds == ["full"] * 2 + ["shallow"] * 2
