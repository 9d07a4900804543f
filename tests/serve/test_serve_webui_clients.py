"""The calls of Open WebUI, SillyTavern and LibreChat, as their own code makes them."""

import base64
import io
import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from gates import Gate
from servers import Started

PROMPT = "a red apple"


def picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def same(found: Image.Image, expected: Image.Image) -> None:
    np.testing.assert_array_equal(np.asarray(found.convert("RGB")), np.asarray(expected))


def basic(auth: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"}


@pytest.fixture
def keyed(start: Any, tmp_path: Any) -> Any:
    """A server that wants a key."""
    (tmp_path / "keys").write_text("a-key\n")
    with start(api_key_file=tmp_path / "keys") as server:
        yield server


class OpenWebUi:
    """Its automatic1111 engine; auth as it stands in the settings, "user:password"."""

    def __init__(self, base: str, auth: str | None = None) -> None:
        headers = {"authorization": ""} if auth is None else basic(auth)
        self.http = httpx.Client(base_url=base, headers=headers)

    def verify(self) -> bool:
        return self.http.get("/sdapi/v1/options").is_success

    def models(self) -> list[tuple[str, str]]:
        return [
            (model["title"], model["model_name"])
            for model in self.http.get("/sdapi/v1/sd-models").json()
        ]

    def set_model(self, model: str) -> None:
        options = self.http.get("/sdapi/v1/options").json()
        if model != options["sd_model_checkpoint"]:
            options["sd_model_checkpoint"] = model
            self.http.post("/sdapi/v1/options", json=options).raise_for_status()

    def paint(self, prompt: str, size: str, steps: int | None, n: int = 1) -> list[bytes]:
        width, height = map(int, size.split("x"))
        data = {"prompt": prompt, "batch_size": n, "width": width, "height": height}
        if steps is not None:
            data["steps"] = steps
        answer = self.http.post("/sdapi/v1/txt2img", json=data, timeout=60).json()
        json.loads(answer["info"])
        return [base64.b64decode(image) for image in answer["images"]]


def test_open_webui_by_its_automatic1111_engine(server: Started, library: Any) -> None:
    client = OpenWebUi(server.base_url)
    assert client.verify()
    ((title, name),) = client.models()
    assert name == "pocket"
    client.set_model(title)
    data = client.paint(PROMPT, "64x64", 4, n=2)
    assert [Image.open(io.BytesIO(one)).size for one in data] == [(64, 64), (64, 64)]
    info = Image.open(io.BytesIO(data[0])).info["parameters"]
    seed = int(info.partition("Seed: ")[2].partition(",")[0])
    expected = library(PROMPT, seed=seed, num_inference_steps=4).images[0]
    same(Image.open(io.BytesIO(data[0])), expected)


def test_open_webui_with_a_key(keyed: Started) -> None:
    assert not OpenWebUi(keyed.base_url).verify()
    assert not OpenWebUi(keyed.base_url, "any:wrong").verify()
    client = OpenWebUi(keyed.base_url, "any:a-key")
    assert client.verify()
    assert len(client.paint(PROMPT, "64x64", 2)) == 1


def test_open_webui_by_its_openai_engine(server: Started, library: Any) -> None:
    data = {
        "model": "pocket",
        "prompt": PROMPT,
        "n": 1,
        "size": "64x64",
        "response_format": "b64_json",
    }
    answer = httpx.post(
        f"{server.base_url}/v1/images/generations",
        json=data,
        headers={"Authorization": "Bearer anything"},
        timeout=60,
    )
    answer.raise_for_status()
    (image,) = answer.json()["data"]
    assert not image.get("url")
    assert picture(image["b64_json"]).size == (64, 64)


class SillyTavern:
    """Its server's calls for the source "Stable Diffusion Web UI (AUTOMATIC1111)"."""

    def __init__(self, base: str, auth: str = "") -> None:
        self.http = httpx.Client(base_url=base, headers=basic(auth or ":"))

    def ping(self) -> None:
        self.http.get("/sdapi/v1/options").raise_for_status()

    def names(self, of: str, key: str = "name") -> list[str]:
        answer = self.http.get(f"/sdapi/v1/{of}")
        answer.raise_for_status()
        return [one[key] for one in answer.json()]

    def upscalers(self) -> list[str]:
        found = self.names("upscalers")
        found[1:1] = self.names("latent-upscale-modes")
        return found

    def get_model(self) -> str:
        return self.http.get("/sdapi/v1/options").json()["sd_model_checkpoint"]

    def set_model(self, model: str) -> None:
        self.http.post("/sdapi/v1/options", json={"sd_model_checkpoint": model}).raise_for_status()
        progress = self.http.get("/sdapi/v1/progress").json()
        assert (progress["progress"], progress["state"]["job_count"]) == (0, 0)

    def generate(self, **settings: Any) -> dict[str, Any]:
        body = {
            "url": "http://127.0.0.1:8080",
            "auth": "",
            "prompt": PROMPT,
            "negative_prompt": "blue",
            "sampler_name": "DPM++ 2M",
            "scheduler": "karras",
            "steps": 4,
            "cfg_scale": 7,
            "width": 64,
            "height": 64,
            "restore_faces": False,
            "enable_hr": False,
            "hr_upscaler": "Latent",
            "hr_scale": 1.0,
            "hr_additional_modules": [],
            "denoising_strength": 0.7,
            "hr_second_pass_steps": 0,
            "seed": 7,
            "override_settings": {"CLIP_stop_at_last_layers": 1, "forge_additional_modules": []},
            "override_settings_restore_afterwards": True,
            "clip_skip": 1,
            "save_images": True,
            "send_images": True,
            "do_not_save_grid": False,
            "do_not_save_samples": False,
            **settings,
        }
        answer = self.http.post("/sdapi/v1/txt2img", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def interrupt(self) -> None:
        self.http.post("/sdapi/v1/interrupt").raise_for_status()


SETTINGS: dict[str, Any] = {
    "seed": 7,
    "num_inference_steps": 4,
    "guidance_scale": 7.0,
    "width": 64,
    "height": 64,
    "scheduler": "dpmpp_2m_karras",
}


def test_sillytavern_by_its_webui_source(server: Started, library: Any) -> None:
    client = SillyTavern(server.base_url)
    client.ping()
    client.set_model(client.names("sd-models", "title")[0])
    assert client.get_model() == "pocket"
    assert "DPM++ 2M" in client.names("samplers")
    assert "karras" in client.names("schedulers")
    assert client.upscalers()[:2] == ["None", "Lanczos"]
    vaes = {*client.names("sd-vae", "model_name"), *client.names("sd-modules", "model_name")}
    same(picture(client.generate()["images"][0]), library(PROMPT, "blue", **SETTINGS).images[0])
    chosen = {"sd_vae": vaes.pop(), "CLIP_stop_at_last_layers": 2}
    answer = client.generate(override_settings=chosen, clip_skip=2)
    expected = library(PROMPT, "blue", **SETTINGS, vae="tiny", clip_skip=1).images[0]
    same(picture(answer["images"][0]), expected)


def test_sillytavern_interrupts_when_its_user_goes_away(server: Started, gate: Gate) -> None:
    client, other = SillyTavern(server.base_url), SillyTavern(server.base_url)
    found: list[dict[str, Any]] = []
    painting = threading.Thread(target=lambda: found.append(client.generate()))
    painting.start()
    gate.let(1)
    while not other.http.get("/sdapi/v1/progress").json()["state"]["sampling_step"]:
        assert painting.is_alive()
    other.interrupt()
    gate.open()
    painting.join()
    assert found[0]["images"] == []
    server.until_idle()
    assert gate.begun <= 2


def test_sillytavern_by_its_stable_diffusion_cpp_source(server: Started, library: Any) -> None:
    assert httpx.options(f"{server.base_url}/v1/images/generations").is_success
    payload = {
        "prompt": PROMPT,
        "negative_prompt": "blue",
        "width": 64,
        "height": 64,
        "steps": 4,
        "cfg_scale": 7,
        "seed": 7,
        "batch_size": 1,
        "sampler_name": "dpm++2m",
        "scheduler": "karras",
        "clip_skip": 1,
    }
    answer = httpx.post(f"{server.base_url}/sdapi/v1/txt2img", json=payload, timeout=60)
    answer.raise_for_status()
    expected = library(PROMPT, "blue", **SETTINGS).images[0]
    same(picture(answer.json()["images"][0]), expected)


def test_librechat(server: Started) -> None:
    payload = {
        "prompt": PROMPT,
        "negative_prompt": "blue",
        "cfg_scale": 4.5,
        "steps": 2,
        "width": 128,
        "height": 128,
    }
    answer = httpx.post(f"{server.base_url}/sdapi/v1/txt2img", json=payload, timeout=60).json()
    info = json.loads(answer["info"])
    image = picture(answer["images"][0].split(",", 1)[0])
    assert image.size == (info["width"], info["height"]) == (128, 128)
    said = info["infotexts"][0].split("\n").pop()
    assert said.startswith("Steps: 2, ")
    assert f"Seed: {info['seed']}, " in said


def test_lobehub(server: Started) -> None:
    """openai-node with the model's own parameters passed through, and no response_format."""
    body = {
        "model": "pocket",
        "prompt": PROMPT,
        "n": 1,
        "size": "64x64",
        "seed": 7,
        "cfg": 7,
        "steps": 4,
        "watermark": False,
    }
    answer = httpx.post(f"{server.base_url}/v1/images/generations", json=body, timeout=60)
    answer.raise_for_status()
    (image,) = answer.json()["data"]
    assert picture(image["b64_json"]).size == (64, 64)
