"""Profiles: which graphs they take, what they fill in, what a call and a picture's file say."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import loras
from evaluations import kinds, watched
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.errors import AdapterError, BundleError
from pleinair.runtime.speed.profiles import PROFILES, Profile

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK: dict[str, Any] = {"seed": 7, "num_inference_steps": 5, "scheduler": "ddim"}


@pytest.fixture(scope="module")
def folder(exported_openvino: Path, made: Any) -> Path:
    """With graphs under the names of the 8-bit ones, which decode to another picture."""

    def make(folder: Path) -> None:
        shutil.copytree(exported_openvino, folder)
        for part in ("unet", "vae_decoder"):
            shutil.copytree(folder / part, folder / f"{part}_int8")

    return made("profiles/model", make)


@pytest.fixture(scope="module")
def pipes(folder: Path) -> dict[str, StableDiffusionPipeline]:
    return {
        name: StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile=name)
        for name in PROFILES
    }


@pytest.fixture
def quick(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["--model", str(folder), "--steps", "5", "--seed", "7", "--scheduler", "ddim"]


def test_exact_gives_nothing_up() -> None:
    assert PROFILES["exact"] == Profile("exact", precision="f32")
    assert not PROFILES["exact"].settings


@pytest.mark.parametrize("name", PROFILES)
def test_which_graphs_are_taken(
    pipes: dict[str, StableDiffusionPipeline], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen = watched(pipes[name], monkeypatch)
    pipes[name]("boat", **QUICK)
    eight = PROFILES[name].eight_bit
    assert {one.file.parent.name for one in seen} == {"unet_int8" if eight else "unet"}
    files = {part: file.parent.name for part, file in pipes[name].parts.files.items()}
    assert files["vae_decoder"] == ("vae_decoder_int8" if eight else "vae_decoder")
    assert files["text_encoder"] == "text_encoder"
    assert ("s" in kinds(seen)) == (name == "fast")


def test_fast_is_its_settings_spelled_out(pipes: dict[str, StableDiffusionPipeline]) -> None:
    fast = pipes["fast"]("boat", **QUICK).images[0]
    spelled = pipes["balanced"]("boat", **QUICK, **PROFILES["fast"].settings).images[0]
    assert np.array_equal(fast, spelled)
    balanced = pipes["balanced"]("boat", **QUICK).images[0]
    assert not np.array_equal(fast, balanced)


def test_a_calls_settings_win(pipes: dict[str, StableDiffusionPipeline]) -> None:
    throughout = {"cache_interval": 1, "guidance_stop": 1.0}
    fast = pipes["fast"]("boat", **QUICK, **throughout).images[0]
    assert np.array_equal(fast, pipes["balanced"]("boat", **QUICK).images[0])


@pytest.mark.parametrize("name", ["balanced", "fast"])
def test_what_the_folder_lacks(exported_openvino: Path, name: str) -> None:
    command = f"pleinair-quantize {exported_openvino}"
    with pytest.raises(BundleError, match="holds no unet_int8 as openvino") as caught:
        StableDiffusionPipeline.from_pretrained(exported_openvino, profile=name)
    assert str(caught.value).endswith(command)
    assert "\n" not in str(caught.value)


def test_eight_bits_of_the_other_format_do_not_serve(exported_onnx: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported_onnx, tmp_path / "model")
    (folder / "unet_int8").mkdir()
    (folder / "unet_int8" / "openvino_model.xml").write_text("<net></net>")
    (folder / "unet_int8" / "openvino_model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="holds no unet_int8 as onnx"):
        StableDiffusionPipeline.from_pretrained(folder, engine="onnxruntime", profile="balanced")


def test_a_graph_without_its_weights(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "unet_int8" / "openvino_model.bin").unlink()
    with pytest.raises(BundleError, match=r"openvino_model\.bin: missing"):
        StableDiffusionPipeline.from_pretrained(copy, profile="balanced")


@pytest.fixture(scope="module")
def lora(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet")
    file = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    return loras.diffusers(file, loras.factors(unet, 1))


@pytest.mark.parametrize("cache", [None, "auto"])
def test_lora_files_go_with_every_profile(folder: Path, lora: Path, cache: str | None) -> None:
    """The folder's graphs of 8 bits are copies in floats, so that the pictures are the same."""
    latents = []
    for name in ("exact", "balanced", "fast"):
        pipe = StableDiffusionPipeline.from_pretrained(
            folder,
            engine="openvino",
            loras=[(lora, 0.5)],
            profile=name,
            precision="f32",
            cache_dir=cache,
        )
        settings = {} if name == "fast" else PROFILES["fast"].settings
        out = pipe("boat", **QUICK, **settings, output_type="latent")
        latents.append(out.images[0])
    np.testing.assert_array_equal(latents[1], latents[2])
    np.testing.assert_allclose(latents[0], latents[1], atol=1e-4)
    plain = StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile="fast")
    other = plain("boat", **QUICK, output_type="latent").images[0]
    assert np.abs(other - latents[2]).max() > 0.05


def test_a_weight_that_8_bits_do_not_name(folder: Path, lora: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "pleinair.json").unlink()
    graph = copy / "unet_int8" / "openvino_model.xml"
    text = graph.read_text(encoding="utf-8")
    graph.write_text(text.replace("mid_block.resnets.0.conv1", "renamed"), encoding="utf-8")
    with pytest.raises(
        AdapterError, match=r"weight mid_block\.resnets\.0\.conv1\.weight"
    ) as caught:
        StableDiffusionPipeline.from_pretrained(copy, loras=[lora], profile="balanced")
    assert f"{graph}: " in str(caught.value)
    assert "pleinair-quantize --overwrite" in str(caught.value)
    assert "\n" not in str(caught.value)
    StableDiffusionPipeline.from_pretrained(copy, loras=[lora])


def test_8_bits_alone_cannot_be_changed(folder: Path, lora: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "pleinair.json").unlink()
    shutil.rmtree(copy / "unet")
    with pytest.raises(BundleError, match="unet") as caught:
        StableDiffusionPipeline.from_pretrained(copy, loras=[lora], profile="balanced")
    assert "\n" not in str(caught.value)


def said(file: str) -> dict[str, Any]:
    return json.loads(Image.open(file).text["pleinair"])


def test_a_picture_says_and_repeats_its_profile(quick: list[str], folder: Path) -> None:
    assert main([*quick, "--profile", "fast", "--output", "fast.png"]) == 0
    own = said("fast.png")
    assert own["profile"] == "fast"
    assert PROFILES["fast"].settings.items() <= own.items()
    again = ["--model", str(folder), "--params-from", "fast.png"]
    assert main([*again, "--output", "again.png"]) == 0
    assert np.array_equal(Image.open("again.png"), Image.open("fast.png"))
    # Another profile brings its own settings, not those of the picture.
    assert main([*again, "--profile", "exact", "--output", "exact.png"]) == 0
    assert main([*quick, "--output", "plain.png"]) == 0
    assert np.array_equal(Image.open("exact.png"), Image.open("plain.png"))
    assert not np.array_equal(Image.open("exact.png"), Image.open("fast.png"))
    assert said("plain.png")["profile"] == "exact"
    assert "cache_interval" not in said("plain.png")


def test_every_flag_is_recorded_and_restored(quick: list[str], folder: Path) -> None:
    flags = ["--cache-interval", "2", "--cache-branch", "1", "--cache-schedule", "growing"]
    flags += ["--cache-guidance", "kept", "--guidance-start", "0.2", "--guidance-stop", "0.8"]
    assert main([*quick, *flags, "--output", "a.png"]) == 0
    own = said("a.png")
    for name, value in zip(flags[::2], flags[1::2], strict=True):
        assert str(own[name[2:].replace("-", "_")]) == value
    assert main(["--model", str(folder), "--params-from", "a.png", "--output", "b.png"]) == 0
    assert np.array_equal(Image.open("a.png"), Image.open("b.png"))


def test_profiles_side_by_side(quick: list[str]) -> None:
    words = ["profile=exact,fast", "cache_interval=1,2"]
    assert main([*quick, "--compare", *words, "--outdir", "sheet"]) == 0
    own = [said(str(file)) for file in sorted(Path("sheet/samples").glob("*.png"))]
    assert [(one["profile"], one["cache_interval"]) for one in own] == [
        ("exact", 1),
        ("fast", 1),
        ("exact", 2),
        ("fast", 2),
    ]
    assert Path("sheet/compare-0000.png").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--profile", "quick"], "choose from: exact, native, balanced, fast"),
        (["--cache-interval", "0"], "--cache-interval is 0; give 1 or more"),
        (["--guidance-stop", "2"], "--guidance-stop 2"),
    ],
)
def test_bad_values_are_one_line(
    quick: list[str], flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*quick, *flags, "--output", "a.png"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[-1]
    assert not Path("a.png").exists()


def test_a_profile_that_the_folder_lacks_is_one_line(
    exported_openvino: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "a.png"
    flags = ["--model", str(exported_openvino), "--profile", "balanced", "--output", str(target)]
    assert main(flags) == 2
    assert f"pleinair-quantize {exported_openvino}" in capsys.readouterr().err.splitlines()[-1]
