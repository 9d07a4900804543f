"""What is said beforehand of replicas on one machine."""

import pytest

from pleinair.bench.scale import expected


def test_replicas_with_cores_of_their_own_add_up() -> None:
    one = expected(1, 16, seconds=2.0, handing=0.0, beside=0.1)
    assert one == pytest.approx(0.5)
    assert expected(4, 16, seconds=2.0, handing=0.0, beside=0.1) == pytest.approx(4 * one)


def test_handing_over_makes_each_picture_longer() -> None:
    assert expected(2, 16, seconds=1.9, handing=0.1, beside=0.0) == pytest.approx(1.0)


def test_more_than_the_cores_share_them_with_what_is_beside() -> None:
    two = expected(2, 2, seconds=0.9, handing=0.5, beside=0.1)
    assert two == pytest.approx(2.0)
    assert expected(4, 2, seconds=0.9, handing=0.5, beside=0.1) == two
    assert expected(1, 2, seconds=0.45, handing=0.5, beside=0.1, threads=2) == pytest.approx(2.0)
