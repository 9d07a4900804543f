"""`--params-from`: what a file says becomes options, as far as the model at hand has them."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fakes import POCKET
from pleinair import runtime
from pleinair.runtime.cli import main, repeat
from pleinair.runtime.cli.arguments import parser
from pleinair.runtime.engines import openvino
from pleinair.runtime.errors import SettingError
from pleinair.runtime.families.stable_diffusion import StableDiffusion
from pleinair.runtime.families.stable_diffusion_3 import StableDiffusion3
from pleinair.runtime.families.xl import StableDiffusionXL
from pleinair.runtime.record import adapters, made, metadata

FIELDS = "Steps: 2, Sampler: {}, CFG scale: 6.5, Seed: 4, Size: 64x64, RNG: CPU"


def picture(text: str, name: str = "parameters") -> Path:
    info = PngInfo()
    info.add_text(name, text)
    Image.new("RGB", (8, 8)).save("a.png", pnginfo=info)
    return Path("a.png")


def family(kind: type, width: int = 768, solver: str = "PNDMScheduler") -> Any:
    bundle = SimpleNamespace(
        name="tiny",
        digest="",
        scheduler={"_class_name": solver},
        config=lambda part: {"hidden_size": width},
    )
    return SimpleNamespace(
        name=kind.name, options=kind.options, layers_left=kind.layers_left, bundle=bundle
    )


SD1, SD2 = family(StableDiffusion), family(StableDiffusion, width=1024)
XL = family(StableDiffusionXL)
SD3 = family(StableDiffusion3, solver="FlowMatchEulerDiscreteScheduler")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def restored(model: Any, *flags: str) -> Any:
    """The options of a command line with --params-from, fitted to a model."""
    options = parser().parse_args(["--params-from", "a.png", *flags])
    repeat.restore(options).fit(options, model)
    return options


@pytest.mark.parametrize(
    ("model", "version", "layer", "skipped"),
    [
        (SD1, "v1.9.4", 1, None),
        (SD1, "v1.9.4", 2, 1),
        (SD1, "f2.0.1v1.10.1", 3, 2),
        (SD2, "v1.9.4", 2, None),  # webui has none for OpenCLIP
        (SD2, "f2.0.1v1.10.1", 2, 1),
        (XL, "v1.9.4", 2, None),
        (XL, "v1.9.4", 4, None),
        (XL, "f2.0.1v1.10.1", 2, None),  # its own layer
        (XL, "f2.0.1v1.10.1", 4, 2),
        (SD3, "f2.0.1v1.10.1", 3, 1),
    ],
)
def test_clip_skip_means_what_it_means_for_that_kind_of_model(
    model: Any, version: str, layer: int, skipped: int | None
) -> None:
    picture(f"a boat\n{FIELDS.format('Euler')}, Clip skip: {layer}, Version: {version}")
    assert restored(model).clip_skip == skipped
    assert restored(model, "--clip-skip", "1").clip_skip == 1


def test_xl_s_skipped_layers_come_back() -> None:
    """Written by us as webui's neighbours count, and in JSON as we do."""
    said = {"prompt": "a", "num_inference_steps": 2, "seed": 1, "clip_skip": 1, "clip_layer": 3}
    said["version"] = "Pleinair 0.1.0"
    assert "Clip skip: 3" in metadata.described(said)["parameters"]
    for name, text in metadata.described(said).items():
        picture(text, name)
        assert restored(XL).clip_skip == 1


def test_what_is_of_other_kinds_of_models_is_named(capsys: Any) -> None:
    said = {"prompt": "a", "original_size": "64x64", "image_guidance_scale": 1.5, "steps": 3}
    picture(json.dumps(said), "pleinair")
    options = restored(SD1)
    assert options.original_size is None
    assert options.image_guidance_scale is None
    assert "original_size, image_guidance_scale (not of Stable Diffusion)" in sorted_names(capsys)
    assert restored(XL).original_size == "64x64"


def sorted_names(capsys: Any) -> str:
    """The named options in one order, whichever the groups have."""
    text = capsys.readouterr().err
    other = "image_guidance_scale, original_size"
    return text.replace(other, "original_size, image_guidance_scale")


def test_a_sampler_for_another_training_noise(capsys: Any) -> None:
    picture(f"a boat\n{FIELDS.format('Euler')}")
    assert restored(SD3).scheduler == "flow_euler"  # one sampler in webui
    picture(f"a boat\n{FIELDS.format('DPM++ 2M Karras')}")
    assert restored(SD3).scheduler is None
    assert "scheduler dpmpp_2m_karras (not of Stable Diffusion 3)" in capsys.readouterr().err
    assert restored(SD1).scheduler == "dpmpp_2m_karras"


def test_settings_of_a_picture_that_is_not_given(capsys: Any) -> None:
    picture(f"a boat\n{FIELDS.format('Euler')}, Denoising strength: 0.6, Mask blur: 4")
    options = restored(SD1)
    assert (options.strength, options.mask_blur) == (None, None)
    (line,) = capsys.readouterr().err.splitlines()[:1]
    assert "strength 0.6 (of a picture; give that, too), mask_blur 4.0" in line
    options = restored(SD1, "--init-img", "b.png", "--mask", "c.png")
    assert (options.strength, options.mask_blur) == (0.6, 4.0)


def test_all_that_is_not_taken_over_stands_in_one_line(capsys: Any) -> None:
    fields = ", ".join(f"Field{i}: 1" for i in range(20))
    detailer = ", ".join(f"ADetailer {i}: 1" for i in range(12))
    picture(f"a boat\n{FIELDS.format('Euler')}, {fields}, {detailer}")
    restored(SD1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "not used" in line]
    assert line.startswith("a.png: not used: Field0, Field1, ")
    assert line.endswith("Field19, ADetailer … (12)")


def test_no_prompt_is_no_default_prompt() -> None:
    picture('{"invented": {"positive_prompt": 5}, "seed": 3}')
    options = parser().parse_args(["--params-from", "a.png"])
    with pytest.raises(SettingError, match=r"a\.png: no prompt can be found in it; give --prompt"):
        repeat.restore(options)
    assert restored(SD1, "--prompt", "a boat").seed == 3


@pytest.mark.parametrize("text", ["[" * 100_000, '{"prompt": ', "{}", "[1]", '{"steps": "many"}'])
def test_mistakes_are_one_line_and_exit_code_2(text: str, capsys: Any) -> None:
    for name in (picture(text).name, "n" * 5000, "n" * 5000 + ".json"):
        assert main(["--model", str(POCKET), "--params-from", name]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert len(line) < 500


def lora(path: Path, content: bytes = b"") -> dict[str, Any]:
    """A file at a path, and an entry of it as webui writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"{}"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)
    return {"name": path.stem, "weight": 0.5, "hash": hashlib.sha256(content).hexdigest()[:12]}


def test_a_lora_is_found_by_its_place_then_by_its_name_and_content() -> None:
    lora(Path("models/loras/a/ink.safetensors"), b"other")
    entry = lora(Path("models/loras/b/ink.safetensors"), b"ink")
    found = [f"{Path('models/loras/b/ink.safetensors')}:0.5"]
    for more in ({}, {"path": "loras/b/ink.safetensors"}, {"path": "loras/a/ink.safetensors"}):
        picture(json.dumps({"prompt": "a", "loras": [{**entry, **more}]}), "pleinair")
        assert restored(SD1).lora == found
    # Fooocus says the beginning of the whole file's digest, InvokeAI one that cannot be compared.
    plain = {"name": "ink", "weight": 0.5}
    for digest in (entry["hash"], entry["hash"].upper(), "blake3"):
        picture(json.dumps({"prompt": "a", "loras": [{**plain, "hash": digest}]}), "pleinair")
        assert restored(SD1).lora


@pytest.mark.parametrize("path", ["../secret.safetensors", "/etc/passwd", "C:\\x", "a/../../b"])
def test_a_place_outside_of_the_folders_is_never_looked_at(path: str, capsys: Any) -> None:
    entry = lora(Path("secret.safetensors"), b"ink")
    picture(json.dumps({"prompt": "a", "loras": [{**entry, "path": path}]}), "pleinair")
    assert restored(SD1).lora == []
    assert "not used: loras" in capsys.readouterr().err


def test_a_lora_or_embedding_that_is_not_here_stops() -> None:
    entry = lora(Path("models/loras/ink.safetensors"), b"ink")
    words = [{"name": "good", "word": "good"}]
    said = {"prompt": "a", "loras": [{**entry, "hash": "0" * 12}], "embeddings": words}
    picture(json.dumps(said), "pleinair")
    options = parser().parse_args(["--params-from", "a.png"])
    with pytest.raises(SettingError) as caught:
        repeat.restore(options)
    assert str(caught.value).startswith(
        "a.png: painted with <lora:ink:0.5> (another file of that name), "
        "embedding good (not there), looked for in "
    )
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("compiled_once")
def test_a_picture_of_the_library_says_how_it_was_made_and_repeats_itself() -> None:
    pipe = runtime.StableDiffusionPipeline.from_pretrained(
        POCKET, engine="openvino", profile="exact"
    )
    call: dict[str, Any] = {"seed": 7, "num_inference_steps": 1, "width": 64, "height": 64}
    first, second = pipe("a red apple", "blue", num_images_per_prompt=2, **call).images
    assert first.info["parameters"].startswith("a red apple\nNegative prompt: blue\nSteps: 1, ")
    assert "Seed: 8, Size: 64x64" in second.info["parameters"]
    assert runtime.save(second, "library.png") == Path("library.png")
    flags = ["--model", str(POCKET), "--params-from", "library.png", "--output", "again.png"]
    assert main(flags) == 0
    assert np.array_equal(Image.open("again.png"), second)
    assert metadata.read("again.png").settings == metadata.read("library.png").settings


def test_what_an_image_of_a_call_says() -> None:
    """Without painting: the second pass, variations, a profile's settings, defaults left out."""
    pipe = runtime.StableDiffusionPipeline.from_pretrained(
        POCKET, engine="openvino", profile="exact"
    )
    plan = pipe.plan("boat", seed=7, enlarge=2, enlarge_strength=0.5, num_images_per_prompt=2)
    said = made.description(pipe, plan, 1)
    assert (said["profile"], said["precision"]) == ("exact", "f32")
    assert (said["enlarge"], said["enlarge_strength"], said["enlarge_guidance_scale"]) == (
        2,
        0.5,
        1,
    )
    assert (said["prompt"], said["seed"], said["width"]) == ("boat", 8, pipe.family.size)
    assert not {"eta", "syntax", "cache_interval", "loras", "clip_layer"} & said.keys()
    plan = pipe.plan("boat", seed=7, variation_strength=0.5, variation_seed=3, cache_interval=2)
    said = made.description(pipe, plan)
    assert (said["variation_seed"], said["variation_strength"]) == (3, 0.5)
    assert said["cache_interval"] == 2
    found = metadata.Found(said)
    assert metadata._checked(said) == found  # all of it may come back out of a file


def test_a_file_that_is_gone_costs_no_picture() -> None:
    gone = SimpleNamespace(path=Path("gone.safetensors"), weight=0.5, word="good")
    assert adapters.lora_record(gone) == {"name": "gone", "weight": 0.5}
    said = {"prompt": "a", "embeddings": [adapters.embedding_record(gone)]}
    assert said["embeddings"] == [{"name": "gone", "word": "good"}]
    assert "TI hashes" not in metadata.described(said)["parameters"]


def test_arrays_and_latents_say_nothing() -> None:
    plan = SimpleNamespace(jobs=[])
    made.label([np.zeros((8, 8, 3)), None], SimpleNamespace(), plan)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "flags", "expected"),
    [
        ({"precision": "bf16"}, [], "bf16"),
        ({"precision": "autocast"}, [], "autocast"),
        ({}, [], "f32"),  # of a version in which all was float32 that did not say otherwise
        ({"precision": "bf16"}, ["--precision", "f32"], "f32"),
        ({"precision": "bf16"}, ["--profile", "exact"], None),  # which brings its own
        ({"precision": "f23"}, [], "f32"),
    ],
)
def test_the_precision_of_a_picture(said: Any, flags: list[str], expected: str | None) -> None:
    picture(json.dumps({"prompt": "boat", "version": "Pleinair 0.1", **said}), "pleinair")
    assert restored(SD1, *flags).precision == expected


def test_other_programs_say_no_precision() -> None:
    picture(f"boat\n{FIELDS.format('Euler')}")
    assert restored(SD1).precision is None


@pytest.mark.usefixtures("compiled_once")
def test_a_precision_that_this_processor_lacks_is_auto(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(openvino, "_is_able", lambda core, device, precision: precision == "f32")
    said = {"prompt": "a cat", "seed": 1, "num_inference_steps": 1, "version": "Pleinair 0.1"}
    said |= {"engine": "openvino", "device": "CPU", "precision": "bf16"}
    picture(json.dumps(said), "pleinair")
    flags = ["--model", str(POCKET), "--params-from", "a.png", "--output", "again.png"]
    assert main(flags) == 0
    assert "painting on what is here instead: precision is bf16" in capsys.readouterr().err
    assert metadata.read("again.png").settings["precision"] == "f32"
    assert main([*flags[:2], "--prompt", "a cat", "--precision", "bf16", "--skip_save"]) == 2
    assert "--precision is bf16, which CPU has not" in capsys.readouterr().err
