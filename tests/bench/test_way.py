"""Ways to paint, read from a word."""

from pathlib import Path

import pytest

from pleinair.bench.way import Way
from pleinair.runtime.errors import SettingError


def test_a_word_is_a_profile_and_settings_override_it() -> None:
    way = Way.read("balanced,vae=tiny,guidance_scale=1.5,tile=none,mask_invert=true")
    assert way.name == "balanced,vae=tiny,guidance_scale=1.5,tile=none,mask_invert=true"
    assert way.opened == {"profile": "balanced"}
    assert way.called == {"vae": "tiny", "guidance_scale": 1.5, "tile": None, "mask_invert": True}
    assert Way.read("model=other/folder,threads=2").opened == {
        "model": "other/folder",
        "threads": 2,
    }


@pytest.mark.parametrize("text", ["exact,stepz=4", "seed=3", "prompt=a cat", ",,=", "self=1"])
def test_a_setting_that_there_is_not_is_named(text: str) -> None:
    with pytest.raises(SettingError, match="is no setting"):
        Way.read(text)


def test_the_nearest_names_are_offered() -> None:
    with pytest.raises(SettingError, match="guidance_scale"):
        Way.read("guidance=3")


def test_its_own_settings_win(exported_openvino: Path) -> None:
    pipe = Way.read("engine=openvino").open(str(exported_openvino), engine="onnxruntime")
    assert pipe.engine.name == "openvino"
    other = Way.read(f"model={exported_openvino}").open("nowhere")
    assert other.bundle.path == exported_openvino
