"""The page's files, what they are made of, and what they ask; `test_serve_page_browser` uses it."""

import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import pleinair.serve.page
from pleinair.runtime.images.condition import Condition
from pleinair.runtime.options.groups import CALL
from pleinair.runtime.options.option import declared
from pleinair.runtime.record import metadata
from pleinair.serve.api.fields import PICTURES
from pleinair.serve.page import fields
from servers import Started

POCKET = Path(__file__).parents[2] / "models" / "pocket"
STATIC = Path(pleinair.serve.page.__file__).parent / "static"
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
WORDS = json.loads((POCKET / "vocabulary.json").read_text(encoding="utf-8"))
CHINESE: dict[str, str] = json.loads(SOURCES["zh.json"])
# A string in a script that is a text, by its looks; and where texts stand in the page's file.
TEXT = re.compile(
    r"""^"((?:[A-Z]|\{\w+\}|,\ )[^"\n]*[a-z][^"\n]*|[a-z][\w']*\ [^"\n]*)"$""",
)
ATTRIBUTE = re.compile(r'\bdata-t[\w-]*="([^"]+)"')
NOT_TEXTS = {
    *("job card", "sheet card", "AbortError", "ArrowLeft", "ArrowRight", "Authorization"),
    *("Content-Type", "English", "Enter", "Files", "LoRA", "Prompting", "Retry-After"),
}
PICTURE = Image.effect_noise((48, 32), 90).convert("RGB")


def silent() -> bytes:
    """A file that says nothing of how it was made."""
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    return file.getvalue()


def png(settings: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, "PNG", pnginfo=metadata.png_info(settings))
    return file.getvalue()


@pytest.fixture
def client(server: Started) -> Any:
    with httpx.Client(base_url=server.base_url) as made:
        yield made


def offer(client: httpx.Client) -> dict[str, Any]:
    return client.get("/page/offer").raise_for_status().json()


def test_nothing_is_fetched_from_elsewhere(client: httpx.Client) -> None:
    """Said by the page's policy, to which browsers hold it, and there is nothing that would be."""
    page = client.get("/").raise_for_status()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in page.headers["content-security-policy"]
    addresses = {
        found for text in SOURCES.values() for found in re.findall(r"\w+://[^\"' ]*", text)
    }
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nobody asks for


def test_every_file_is_served_as_what_it_is(client: httpx.Client) -> None:
    kinds = {"js": "text/javascript", "css": "text/css", "json": "application/json"}
    for name, text in SOURCES.items():
        answer = client.get(f"/page/files/{name}").raise_for_status()
        assert answer.text == text
        kind = kinds.get(name.rpartition(".")[2])
        assert kind is None or answer.headers["content-type"].startswith(kind)
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    ["nothing.js", "..%2fpictures.py", "%2e%2e/pictures.py", "%2fetc%2fpasswd", "fields.py"],
)
def test_no_other_file_is_served(client: httpx.Client, name: str) -> None:
    assert client.get(f"/page/files/{name}").status_code == 404


def test_the_form_has_the_options_that_are_declared(client: httpx.Client, server: Started) -> None:
    shown = {one["name"]: one for group in offer(client)["groups"] for one in group["fields"]}
    options = {name: one for group in CALL for name, one in declared(group).items() if one.flags}
    # What is unsafe decides whoever runs the server.
    assert options.keys() - {"safety"} == shown.keys() & options.keys()
    for name, one in options.items():
        field = shown.get(name)
        if field is None:
            continue
        assert field["most"] == one.most
        assert field["default"] == one.default
        assert field["choices"] == (list(one.choices()) if one.choices else None)
    assert shown["num_inference_steps"]["kind"] == "integer"
    assert shown["guidance_scale"]["kind"] == "number"
    assert shown["mask_invert"]["kind"] == "truth"
    assert "{num_inference_steps}" in shown["timesteps"]["help"]
    flags = {name for name, one in shown.items() if "--" in one["help"]}
    assert flags <= {"control_image"}  # whose help is not shown
    assert offer(client)["limits"]["num_inference_steps"] == server.settings.max_steps


def test_the_models_own_settings_are_offered(client: httpx.Client) -> None:
    (model,) = offer(client)["models"]
    assert (model["name"], model["size"], model["profile"]) == ("pocket", 64, "exact")
    assert model["usual"]["num_inference_steps"] == 20
    assert model["usual"]["scheduler"] == "dpmpp_2m"
    assert "dpmpp_2m" in model["samplers"]
    assert "flow_euler" not in model["samplers"]
    assert model["profiles"] == ["exact", "native"]  # the folder holds no graphs in 8 bits
    assert "airplane" in {name for kind in model["words"].values() for name in kind}


def texts() -> set[str]:
    """What the page says in English, as it stands in its sources and in the options."""
    scripts = "\n".join(text for name, text in SOURCES.items() if name.endswith(".js"))
    code = re.sub(r"^\s*/?\*.*|//.*", "", scripts, flags=re.MULTILINE)
    strings = re.findall(r'"(?:[^"\\\n]|\\.)*"', code)
    said = {found[1] for one in strings if (found := TEXT.match(one))} - NOT_TEXTS
    groups = fields.groups(fields.OPTIONS)
    shown = [one for group in groups for one in group["fields"] if one["name"] != "safety"]
    helped = [one["help"] for one in shown if one["name"] not in PICTURES]
    return {
        *said,
        *re.findall(r'\bt: "(\w[^"]*)"', code),
        *ATTRIBUTE.findall(SOURCES["index.html"]),
        *(one["label"] for one in shown),
        *helped,
        *(group["name"] for group in groups if not group["families"] and group["name"] in CHINESE),
        *WORDS["names"],
    }


def test_everything_is_said_in_chinese() -> None:
    """Where it fails: zh.json holds each English text, as it stands in the sources."""
    said = texts()
    assert said - CHINESE.keys() == set()
    stale = CHINESE.keys() - said
    assert stale <= {"random", "Repeat", "Vary", "Inpaint"}  # single words, which look like names


def test_chinese_texts_have_the_same_values() -> None:
    for english, chinese in CHINESE.items():
        values = re.findall(r"\{\w+\}", english)
        assert set(values) == set(re.findall(r"\{\w+\}", chinese)), english


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_picture_says_how_it_was_made(client: httpx.Client, tmp_path: Path, name: str) -> None:
    from pleinair.runtime import save

    made = {"prompt": "一只猫", "seed": 7, "num_inference_steps": 4, "width": 64}
    data = save(PICTURE, tmp_path / name, made).read_bytes()
    answer = client.post("/page/read", content=data).raise_for_status().json()
    assert answer == {"settings": made, "ignored": [], "program": "Pleinair"}


def test_what_it_says_is_fitted_to_the_model(client: httpx.Client) -> None:
    """webui counts the text encoder's layers from the last, which is 1."""
    text = "a cat\nSteps: 4, Sampler: Euler a, Seed: 3, Size: 64x64, Clip skip: 2, Version: v1.9.4"
    file, info = io.BytesIO(), PngInfo()
    info.add_text("parameters", text)
    PICTURE.save(file, "PNG", pnginfo=info)
    answer = client.post("/page/read?model=pocket", content=file.getvalue()).json()
    assert answer["program"] == "webui"
    assert answer["settings"]["scheduler"] == "euler_a"
    assert answer["settings"]["clip_skip"] == 1
    assert client.post("/page/read?model=none", content=file.getvalue()).status_code == 404


def test_seeds_that_browsers_would_round_are_not_used(client: httpx.Client) -> None:
    answer = client.post("/page/read", content=png({"prompt": "a", "seed": 2**60 + 1})).json()
    assert answer["settings"] == {"prompt": "a"}
    assert answer["ignored"] == [f"seed {2**60 + 1}"]


@pytest.mark.parametrize("data", [b"", b"no picture", silent()], ids=["empty", "text", "silent"])
def test_what_says_nothing_is_refused_in_a_line(client: httpx.Client, data: bytes) -> None:
    answer = client.post("/page/read", content=data)
    assert answer.status_code == 400
    assert "the picture" in answer.json()["error"]["message"]
    assert "object at" not in answer.text


def test_edges_are_those_that_a_controlnet_is_shown(client: httpx.Client) -> None:
    answer = client.post("/page/edges?width=96&height=64", content=png({})).raise_for_status()
    found = Image.open(io.BytesIO(answer.content))
    expected = Condition(PICTURE, (100.0, 200.0)).pixels((96, 64), "stretch")
    np.testing.assert_array_equal(np.asarray(found).transpose(2, 0, 1)[None] / 255, expected)
    assert expected.any()


@pytest.mark.parametrize(
    ("query", "status"),
    [("width=0&height=8", 400), ("width=8", 400), ("width=4096&height=4096", 413)],
)
def test_sizes_of_edges_are_bounded(client: httpx.Client, query: str, status: int) -> None:
    assert client.post(f"/page/edges?{query}", content=png({})).status_code == status


def test_pages_that_are_no_pictures_have_no_edges(client: httpx.Client) -> None:
    answer = client.post("/page/edges?width=64&height=64", content=b"no picture")
    assert answer.status_code == 400


def test_with_keys_the_page_comes_and_nothing_else(start: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    with start(api_key_file=keys) as server, httpx.Client(base_url=server.base_url) as client:
        for path in ("/", "/page/files/main.js"):
            assert client.get(path).status_code == 200
        for method, path in (("GET", "/page/offer"), ("POST", "/page/read")):
            answer = client.request(method, path)
            assert answer.status_code == 401
            # By "Basic" browsers would ask in a window of their own.
            assert answer.headers["www-authenticate"].startswith("Bearer")
        headers = {"Authorization": "Bearer secret"}
        assert client.get("/page/offer", headers=headers).status_code == 200
