"""Guidance by its equations: what is asked, when, and what is made of it."""

from dataclasses import replace

import numpy as np
import pytest

from pleinair.runtime.denoise.guidance import (
    CONDITIONAL,
    PICTURE_ALONE,
    UNCONDITIONAL,
    Guidance,
    checked,
    classifier_free,
    instructed,
    rescaled,
    scale_embedding,
)
from pleinair.runtime.errors import SettingError

BRANCHES = (CONDITIONAL, PICTURE_ALONE, UNCONDITIONAL)


def predictions() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shape = (1, 4, 3, 5)
    return {branch: random.normal(size=shape).astype(np.float32) for branch in BRANCHES}


def test_classifier_free_guidance_is_its_equation() -> None:
    found, known = predictions(), classifier_free(7.5)
    expected = found[UNCONDITIONAL] + 7.5 * (found[CONDITIONAL] - found[UNCONDITIONAL])
    assert known.branches == (UNCONDITIONAL, CONDITIONAL)
    np.testing.assert_array_equal(known.combine(found), expected)
    assert known.combine(found).dtype == np.float32


@pytest.mark.parametrize("known", [classifier_free(7.5), instructed(7.5, 1.5)])
def test_rescaled_guidance_varies_as_the_conditional_branch(known: Guidance) -> None:
    found = predictions()
    combined, prompted = known.combine(found), found[CONDITIONAL]
    assert rescaled(known, 1).combine(found).std() == pytest.approx(prompted.std(), rel=1e-5)
    half = combined * (0.5 * prompted.std() / combined.std() + 0.5)
    np.testing.assert_allclose(rescaled(known, 0.5).combine(found), half, rtol=1e-5)
    assert rescaled(known, 0.5).combine(found).dtype == np.float32
    assert rescaled(known, 0) is known
    assert rescaled(known, 1).branches == known.branches


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_to_rescale_by(share: float) -> None:
    with pytest.raises(SettingError, match=r"guidance_rescale is .*; give 0 to 1"):
        rescaled(classifier_free(7.5), share)


def test_nothing_is_divided_by_a_deviation_of_nothing() -> None:
    flat = dict.fromkeys(BRANCHES, np.ones((1, 4, 3, 5), np.float32))
    np.testing.assert_array_equal(
        rescaled(classifier_free(7.5), 1).combine(flat), flat[CONDITIONAL]
    )


@pytest.mark.parametrize("scale", [0, 0.5, 1, 1.0])
def test_up_to_a_scale_of_one_there_is_no_guidance(scale: float) -> None:
    found, known = predictions(), classifier_free(scale)
    assert known.branches == (CONDITIONAL,)
    assert known.combine(found) is found[CONDITIONAL]
    assert not known.guides
    assert not known.acts(0, 10)
    assert known.batches == ((CONDITIONAL,),)


@pytest.mark.parametrize(("scale", "picture_scale"), [(7.5, 1.5), (2, 1), (3, 4)])
def test_two_scales_are_the_paper_s_equation(scale: float, picture_scale: float) -> None:
    found, known = predictions(), instructed(scale, picture_scale)
    both, picture, neither = (found[branch].astype(np.float64) for branch in BRANCHES)
    expected = neither + picture_scale * (picture - neither) + scale * (both - picture)
    np.testing.assert_allclose(known.combine(found), expected, rtol=1e-5, atol=1e-5)
    assert known.branches == BRANCHES  # diffusers' order of the batch
    assert known.blind == {UNCONDITIONAL}


@pytest.mark.parametrize(("scale", "picture_scale"), [(1, 1.5), (0.5, 2), (7.5, 0.9)])
def test_without_one_of_the_two_scales_there_is_no_guidance(
    scale: float, picture_scale: float
) -> None:
    """diffusers' rule: guidance_scale > 1 and image_guidance_scale >= 1."""
    assert not instructed(scale, picture_scale).guides


@pytest.mark.parametrize("scale", [-1, 1e30, float("nan"), float("inf")])
def test_what_is_no_scale(scale: float) -> None:
    with pytest.raises(SettingError, match=r"^guidance_scale is .*; give 0 to 1000$"):
        classifier_free(scale)
    with pytest.raises(SettingError, match="image_guidance_scale is"):
        instructed(7.5, scale)
    with pytest.raises(SettingError, match="width is"):
        checked(scale, "width")


def test_an_interval_is_that_of_diffusers_guiders() -> None:
    guider = pytest.importorskip("diffusers.guiders.classifier_free_guidance")
    for start, stop in [(0, 1), (0.2, 0.8), (0.25, 0.5), (0, 0.01), (0.99, 1), (1 / 3, 2 / 3)]:
        ours = replace(classifier_free(7.5), start=start, stop=stop)
        theirs = guider.ClassifierFreeGuidance(7.5, start=start, stop=stop)
        for total in (1, 4, 7, 20, 50):
            for number in range(total):
                theirs.set_state(number, total, timestep=None)
                assert ours.acts(number, total) == (theirs.num_conditions == 2), (start, stop)


def test_branches_are_asked_apart_where_not_all_are_asked_in_every_step() -> None:
    known = classifier_free(7.5)
    assert not known.apart
    assert known.shares_sample
    assert known.batches == ((UNCONDITIONAL, CONDITIONAL),)
    for changed in ({"start": 0.1}, {"stop": 0.9}, {"kept": True, "steered": True}):
        other = replace(known, **changed)
        assert other.apart
        assert not other.shares_sample
        assert other.batches == ((UNCONDITIONAL,), (CONDITIONAL,))
    assert not replace(Guidance(), kept=True, start=0.5).apart  # nothing to compare


def test_kept_guidance_asks_all_branches_together_and_the_conditional_one_in_between() -> None:
    kept = replace(classifier_free(7.5), kept=True)
    assert kept.batches == ((UNCONDITIONAL, CONDITIONAL),)
    assert kept.shares_sample
    assert kept.between == (CONDITIONAL,)
    assert kept.batch_of(kept.between) == kept.batches[0]
    apart = replace(kept, start=0.5)
    assert apart.batch_of(apart.between) == (CONDITIONAL,)
    assert classifier_free(7.5).between == (UNCONDITIONAL, CONDITIONAL)
    assert replace(Guidance(), kept=True).between == (CONDITIONAL,)


def test_blind_branches_share_no_sample() -> None:
    assert not instructed(7.5, 1.5).shares_sample
    assert not Guidance().shares_sample


@pytest.mark.parametrize("width", [2 + 2, 7, 256])
@pytest.mark.parametrize("scale", [1, 1.5, 8.5])
def test_the_scale_as_an_embedding_is_diffusers(width: int, scale: float) -> None:
    torch = pytest.importorskip("torch")
    from diffusers import LatentConsistencyModelPipeline

    embedding = LatentConsistencyModelPipeline.get_guidance_scale_embedding
    expected = embedding(None, torch.tensor([scale - 1.0]), embedding_dim=width).numpy()
    found = scale_embedding(scale, width)
    assert found.dtype == np.float32
    assert found.shape == (1, width)
    np.testing.assert_allclose(found, expected, atol=1e-3)  # angles to 7500, in float32
