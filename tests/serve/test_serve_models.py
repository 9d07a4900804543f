"""The models that a server offers: what is found by name, opened once, and not loaded anew."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.serve.asked import Asked
from pleinair.serve.bounds import Bounds
from pleinair.serve.errors import Refusal, TooLarge, Unknown
from pleinair.serve.models import Models
from pleinair.serve.service import Service
from pleinair.serve.settings import Settings
from serving import POCKET, asked, pocket_lora

QUICK = {"num_inference_steps": 3}


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that are compiled, as they are."""
    found: list[str] = []
    compile = OpenVinoEngine.compile

    def noted(engine: Any, path: Path, *arguments: Any) -> Any:
        found.append(path.parent.name)
        return compile(engine, path, *arguments)

    monkeypatch.setattr(OpenVinoEngine, "compile", noted)
    return found


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "loras"
    folder.mkdir()
    for number, name in enumerate(("ink", "wash")):
        pocket_lora(folder / f"{name}.safetensors", number)
    return folder


@pytest.fixture
def models(files: Path) -> Iterator[Models]:
    made = Models([POCKET], loras=files, profile="exact")
    yield made
    made.close()


def painted(models: Models, request: Asked) -> Image.Image:
    (image,) = models.plan(request.settled("pocket")).paint().images
    return image


def test_names_are_those_that_are_listed(models: Models) -> None:
    assert models.first == models.named(None) == models.named("pocket") == "pocket"
    assert list(models.loras) == ["ink", "wash"]
    for name in ("Pocket", "../pocket", str(POCKET), ""):
        with pytest.raises(Unknown, match="there are: pocket"):
            models.named(name)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"loras": [("inc", 1.0)]}, "loras"),
        ({"loras": [("../loras/ink", 1.0)]}, "loras"),
        ({"controlnets": [("canny", 1.0)]}, "controlnets"),
    ],
)
def test_what_is_not_listed_is_not_found(models: Models, wrong: Any, param: str) -> None:
    with pytest.raises(Unknown) as refused:
        models.plan(asked(**wrong))
    assert (refused.value.status, refused.value.param) == (404, param)


def test_two_folders_of_a_name_have_two_names() -> None:
    assert list(Models([POCKET, POCKET]).folders) == ["pocket", "pocket-2"]


def test_a_new_lora_file_is_found_by_looking_again(models: Models, files: Path) -> None:
    pocket_lora(files / "new.safetensors", 9)
    assert "new" not in models.loras
    models.refresh()
    assert "new" in models.loras


def test_a_lora_file_changes_the_denoiser_alone(models: Models, compiled: list[str]) -> None:
    plain = painted(models, asked(arguments=QUICK))
    assert sorted(compiled) == ["text_encoder", "unet", "vae_decoder"]
    compiled.clear()
    ink = painted(models, asked("a red apple <lora:ink:0.5>", arguments=QUICK))
    assert compiled == ["unet"]
    assert not np.array_equal(plain, ink)
    compiled.clear()
    assert np.array_equal(ink, painted(models, asked(loras=[("ink", 0.5)], arguments=QUICK)))
    assert compiled == []
    wash = painted(models, asked(loras=[("wash", 0.5)], arguments=QUICK))
    assert not np.array_equal(ink, wash)
    assert np.array_equal(plain, painted(models, asked(arguments=QUICK)))
    assert compiled == ["unet", "unet"]


def test_a_pipeline_that_is_opened_anew_finds_its_graphs(
    models: Models, compiled: list[str]
) -> None:
    request = asked(loras=[("ink", 0.5)], arguments=QUICK)
    first = painted(models, request)
    models._open.clear()
    compiled.clear()
    assert np.array_equal(first, painted(models, request))
    assert compiled == []


def test_from_text_to_a_picture_loads_the_encoder_alone(
    models: Models, compiled: list[str]
) -> None:
    image = painted(models, asked(arguments=QUICK))
    compiled.clear()
    painted(models, asked(arguments={"image": image, "strength": 1.0, **QUICK}))
    assert compiled == ["vae_encoder"]
    compiled.clear()
    painted(models, asked("a rocket", arguments=QUICK))
    assert compiled == []


def test_a_profile_shares_what_it_computes_alike(models: Models, compiled: list[str]) -> None:
    painted(models, asked(arguments=QUICK))
    compiled.clear()
    painted(models, asked(profile="native", arguments=QUICK))
    assert "text_encoder" not in compiled
    compiled.clear()
    painted(models, asked(profile="exact", arguments=QUICK))
    assert "text_encoder" not in compiled


def test_under_a_limit_two_sizes_by_turns_are_compiled_once_each(compiled: list[str]) -> None:
    models = Models([POCKET], profile="exact", max_memory="2GB")
    sizes = [{"width": 64, "height": 64}, {"width": 96, "height": 64}]
    for size in sizes * 3:
        painted(models, asked(arguments={**QUICK, **size}))
    assert sorted(compiled) == sorted(["text_encoder", *["unet", "vae_decoder"] * 2])
    models.close()


def test_bounds_hold_for_the_plan(files: Path) -> None:
    models = Models([POCKET], bounds=Bounds(pixels=64 * 64))
    for arguments in ({"width": 128}, {"enlarge": 2.0}):
        with pytest.raises(TooLarge, match="more than 4096 pixels"):
            models.plan(asked(arguments=arguments))
    with pytest.raises(Refusal, match="20 steps are more than the 5"):
        Models([POCKET], bounds=Bounds(steps=5)).plan(asked(arguments={"num_inference_steps": 20}))


def test_a_server_opens_what_it_offers() -> None:
    assert Models.of(Settings()).first == "pocket"
    with pytest.raises(BundleError, match="no such model folder"):
        Models.of(Settings(model=("pocket", "nowhere")))
    with pytest.raises(BundleError, match="no such ControlNet folder"):
        Models.of(Settings(controlnet=(Path("nowhere"),)))
    with pytest.raises(SettingError, match="--loras is nowhere"):
        Models.of(Settings(loras=Path("nowhere")))
    with pytest.raises(SettingError, match="--warm: width is 60"):
        Models.of(Settings()).warm([(60, 64)])


def test_the_service_s_pictures_are_the_library_s(tmp_path: Path) -> None:
    """Also those of image to image, and of a later seed."""
    arguments = {"num_inference_steps": 4, "scheduler": "euler_a"}
    pipe = StableDiffusionPipeline.from_pretrained(POCKET)
    expected = pipe("a red apple", seed=5, num_images_per_prompt=2, **arguments).images
    again = pipe("a rocket", image=expected[0], strength=0.6, seed=9, **arguments).images[0]

    async def test() -> None:
        service = Service(Models.of(Settings(data=tmp_path)), most=9)
        service.begin([(64, 64)])
        job = await service.submit(asked(number=2, seed=5, arguments=arguments), "me", previews=1)
        seen = [status async for status in job.follow()]
        assert seen[-1].state == "done"
        assert {status.stage for status in seen} >= {"denoise"}
        assert max(status.previewed for status in seen) > 0
        images = [seen[-1].pictures[i].image for i in range(2)]
        assert all(np.array_equal(a, b) for a, b in zip(images, expected, strict=True))
        assert images[1] is not None
        assert images[1].info["parameters"] == expected[1].info["parameters"]
        request = asked("a rocket", seed=9, arguments={**arguments, "image": images[0]})
        request.arguments["strength"] = 0.6  # type: ignore[index]
        status = await (await service.submit(request, "me")).finished()
        assert np.array_equal(status.pictures[0].image, again)
        assert set(service.stages) == {"load", "encode", "denoise", "decode"}
        await service.close(0)

    asyncio.run(asyncio.wait_for(test(), 120))


def test_a_model_that_is_forgotten_is_compiled_anew_and_no_other(
    tmp_path: Path, compiled: list[str]
) -> None:
    for name in ("first", "second"):
        shutil.copytree(POCKET, tmp_path / name)
    models = Models([tmp_path / "first", tmp_path / "second"], profile="exact")
    requests = [asked(model=name, arguments=QUICK) for name in ("first", "second")]
    before = [painted_by(models, one) for one in requests]
    models.forget("first")
    compiled.clear()
    assert painted_by(models, requests[1]) == before[1]
    assert compiled == []
    assert painted_by(models, requests[0]) == before[0]
    assert "unet" in compiled
    models.close()


def painted_by(models: Models, request: Asked) -> bytes:
    (image,) = models.plan(request).paint().images
    return image.tobytes()


def test_an_error_tells_a_client_names_and_no_path(files: Path) -> None:
    save_file(
        {"lora_unet_nothing.lora_up.weight": np.zeros((4, 4), np.float32)},
        files / "odd.safetensors",
    )
    service = Service(Models([POCKET], loras=files, profile="exact"))
    try:
        with pytest.raises(Refusal, match="odd") as refused:
            asyncio.run(service.submit(asked(loras=[("odd", 1.0)]), "a"))
        assert str(files) not in str(refused.value)
    finally:
        asyncio.run(service.close(0))
