"""Profiles and measurements in words."""

from pathlib import Path

import pytest

from fakes import model_folder
from pleinair.runtime.engines import cores
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.model.bundle import Bundle
from pleinair.runtime.speed import machine
from pleinair.runtime.speed.profiles import PROFILES, Profile
from pleinair.runtime.speed.spread import Spread


def test_exact_gives_up_nothing() -> None:
    exact = Profile.of("exact")
    assert exact.settings == {}
    assert not exact.eight_bit
    assert exact.reuse.cache_interval == 1


def test_every_profile_says_all_of_what_is_kept() -> None:
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert None not in vars(profile.reuse).values()
    assert PROFILES["balanced"].settings == {}
    assert PROFILES["fast"].settings["cache_guidance"] == "kept"


def test_eight_bits_are_taken_from_folders_beside(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree", parts=("unet_int8", "vae_decoder_int8"))
    bundle, balanced = Bundle.open(folder), Profile.of("balanced")
    assert balanced.files(bundle, "openvino", "unet") == {
        "unet": "unet_int8",
        "vae_decoder": "vae_decoder_int8",
    }
    assert Profile.of("exact").files(bundle, "openvino", "unet") == {}
    with pytest.raises(BundleError, match="holds no transformer_int8 as openvino"):
        balanced.files(bundle, "openvino", "transformer")


def test_an_unknown_profile() -> None:
    with pytest.raises(
        SettingError, match="'auto' is unknown; choose from: exact, native, balanced"
    ):
        Profile.of("auto")


def test_a_spread_in_a_word() -> None:
    assert Spread.of([]) is None
    assert Spread.of([1.0, None]) is None
    assert Spread.of([3, 1, 2, 10]) == Spread(2.5, 1, 10)
    assert str(Spread.of([1.23456])) == "1.23 (1.23 to 1.23)"
    assert str(Spread(1234.5, 0.01234, 100)) == "1,234 (0.0123 to 100)"


def test_the_machine_has_a_name_and_cores() -> None:
    assert machine.cpu_name()
    assert 1 <= cores.physical_cores() <= cores.hardware_threads()
