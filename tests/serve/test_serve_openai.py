"""OpenAI's own clients, and OpenVINO Model Server's fields, against a server."""

import asyncio
import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from pleinair.runtime import Plan
from pleinair.serve.api import waiting
from pleinair.serve.api.openai.request import sized
from servers import Started, failing, slowly

PROMPT = "a red apple"
QUICK: dict[str, Any] = {"num_inference_steps": 4}
PLACES = 16 * 16
"""Of the latents of a picture of 64x64, by the bundled model."""
KEYS = {"message", "type", "param", "code"}


@pytest.fixture
def client(server: Started) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="any", max_retries=0) as made:
        yield made


def picture(image: Any) -> Image.Image:
    """Of an answer's entry, or of base64."""
    text = image if isinstance(image, str) else image.b64_json
    return Image.open(io.BytesIO(base64.b64decode(text)))


def same(found: Image.Image, expected: Image.Image) -> None:
    np.testing.assert_array_equal(np.asarray(found.convert("RGB")), np.asarray(expected))


def file(image: Image.Image, name: str = "a.png") -> tuple[str, bytes, str]:
    data = io.BytesIO()
    image.save(data, "PNG")
    return name, data.getvalue(), "image/png"


@pytest.fixture(scope="module")
def apple(library: Any) -> Image.Image:
    return library(PROMPT, seed=1, **QUICK).images[0]


def hole(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A mask as OpenAI has it: the left half is transparent, and so painted anew."""
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    return mask


# Text to image.


def test_a_picture_is_the_library_s(client: openai.OpenAI, apple: Image.Image) -> None:
    answer = client.images.generate(prompt=PROMPT, extra_body={**QUICK, "seed": 1})
    assert answer.data is not None
    same(picture(answer.data[0]), apple)
    assert answer.data[0].url is None
    assert abs(answer.created - time.time()) < 60
    assert (answer.size, answer.output_format, answer.background) == ("64x64", "png", "opaque")
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.text_tokens == answer.usage.input_tokens == 3
    assert answer.usage.output_tokens == PLACES
    assert answer.usage.total_tokens == 3 + PLACES
    assert "a red apple" in picture(answer.data[0]).info["parameters"]


def test_several_are_painted_from_a_seed_more_each(client: openai.OpenAI, library: Any) -> None:
    answer = client.images.generate(prompt=PROMPT, n=2, extra_body={**QUICK, "seed": 5})
    assert answer.data is not None
    for image, seed in zip(answer.data, (5, 6), strict=True):
        same(picture(image), library(PROMPT, seed=seed, **QUICK).images[0])
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 2 * PLACES)


def test_fields_of_openvino_model_server(client: openai.OpenAI, library: Any) -> None:
    asked: dict[str, Any] = {
        "negative_prompt": "blue",
        "num_inference_steps": 4,
        "guidance_scale": 3.0,
    }
    answer = client.images.generate(
        prompt=PROMPT, extra_body={**asked, "rng_seed": 3, "max_sequence_length": 256}
    )
    assert answer.data is not None
    same(picture(answer.data[0]), library(PROMPT, seed=3, **asked).images[0])


def test_a_size_is_rounded_to_what_fits(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        prompt=PROMPT, size="100x70", extra_body={"num_inference_steps": 1}
    )
    assert answer.data is not None
    assert picture(answer.data[0]).size == (96, 72)
    assert answer.size == "96x72"


@pytest.mark.parametrize(
    ("text", "multiple", "size"),
    [
        ("512x768", 8, (512, 768)),
        (" 1X40 ", 8, (8, 40)),
        ("1000×1000", 64, (1024, 1024)),
        ("0x0", 16, (16, 16)),
        ("auto", 8, None),
        ("Auto", 8, None),
        (None, 8, None),
    ],
)
def test_sizes(text: str | None, multiple: int, size: tuple[int, int] | None) -> None:
    assert tuple(sized(text, multiple).values()) == (size or ())


@pytest.mark.parametrize("model", ["pocket", "gpt-image-1", "dall-e-3"])
def test_what_a_client_of_openai_says_besides_is_taken(client: openai.OpenAI, model: str) -> None:
    """As all at once: LobeHub's own parameters among it."""
    answer = client.images.generate(
        prompt=PROMPT,
        model=model,
        quality="high",
        style="vivid",
        background="transparent",
        moderation="low",
        user="somebody",
        response_format="b64_json",
        extra_body={"num_inference_steps": 1, "cfg": 3, "imageUrls": [], "size": ""},
    )
    assert answer.data is not None
    assert picture(answer.data[0]).mode == "RGB"


@pytest.mark.parametrize(("format", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_other_formats_say_how_they_were_made_too(
    client: openai.OpenAI, format: Any, kind: str
) -> None:
    sizes = []
    for quality in (5, 100):
        answer = client.images.generate(
            prompt=PROMPT,
            output_format=format,
            output_compression=quality,
            extra_body={"num_inference_steps": 2, "seed": 1},
        )
        assert answer.data is not None
        found = picture(answer.data[0])
        assert found.format == kind
        assert found.getexif()[0x010E].startswith("{")  # ImageDescription: our JSON
        sizes.append(len(answer.data[0].b64_json or ""))
    assert sizes[0] < sizes[1]


def test_a_url_can_be_fetched(client: openai.OpenAI, apple: Image.Image) -> None:
    answer = client.images.generate(
        prompt=PROMPT, response_format="url", extra_body={**QUICK, "seed": 1}
    )
    assert answer.data is not None
    url = answer.data[0].url
    assert url is not None
    assert answer.data[0].b64_json is None
    fetched = httpx.get(url)
    assert fetched.headers["content-type"] == "image/png"
    same(Image.open(io.BytesIO(fetched.content)), apple)
    assert httpx.get(f"{url[:-8]}aaaa.png").status_code == 404


def test_a_url_goes_by_the_proxy_s_name(server: Started) -> None:
    answer = httpx.post(
        f"{server.base_url}/v1/images/generations",
        json={"prompt": PROMPT, "num_inference_steps": 1, "response_format": "url"},
        headers={"X-Forwarded-Host": "paint.example.org", "X-Forwarded-Proto": "https"},
    )
    assert answer.json()["data"][0]["url"].startswith("https://paint.example.org/v1/images/files/")


def test_the_asynchronous_client(server: Started, apple: Image.Image) -> None:
    async def paint() -> Any:
        url = f"{server.base_url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            asked = [
                client.images.generate(prompt=PROMPT, extra_body={**QUICK, "seed": 1}) for _ in "ab"
            ]
            return await asyncio.gather(*asked)

    for answer in asyncio.run(paint()):
        same(picture(answer.data[0]), apple)


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list()
    assert (model.id, model.object, model.owned_by) == ("pocket", "model", "pleinair")
    assert client.models.retrieve("pocket") == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another/one")


# Streams.


def test_a_stream_shows_the_picture_as_it_comes(client: openai.OpenAI, apple: Image.Image) -> None:
    events = list(
        client.images.generate(
            prompt=PROMPT, stream=True, partial_images=2, extra_body={**QUICK, "seed": 1}
        )
    )
    *partials, last = events
    assert {event.type for event in partials} <= {"image_generation.partial_image"}
    assert len(partials) <= 2
    for number, event in enumerate(partials):
        assert event.partial_image_index == number  # type: ignore[union-attr]
        assert picture(event).size == (64, 64)
    assert last.type == "image_generation.completed"
    assert last.usage.total_tokens == 3 + PLACES
    assert (last.size, last.quality, last.background) == ("64x64", "auto", "opaque")
    same(picture(last), apple)


def test_a_stream_has_partial_pictures_where_steps_take_their_time(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, library: Any
) -> None:
    slowly(monkeypatch, 0.02)
    events = list(client.images.generate(prompt=PROMPT, stream=True, partial_images=3))
    kinds = [event.type.rpartition(".")[2] for event in events]
    assert kinds == ["partial_image"] * 3 + ["completed"]
    assert len({event.b64_json for event in events}) == 4


def test_a_stream_of_several(client: openai.OpenAI, library: Any) -> None:
    events = list(
        client.images.generate(prompt=PROMPT, stream=True, n=2, extra_body={**QUICK, "seed": 8})
    )
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    for event, seed in zip(events, (8, 9), strict=True):
        same(picture(event), library(PROMPT, seed=seed, **QUICK).images[0])


def test_the_asynchronous_client_streams(server: Started, apple: Image.Image) -> None:
    async def paint() -> list[Any]:
        url = f"{server.base_url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="any") as client:
            stream = await client.images.generate(
                prompt=PROMPT, stream=True, extra_body={**QUICK, "seed": 1}
            )
            return [event async for event in stream]

    (event,) = asyncio.run(paint())
    same(picture(event), apple)


def test_an_error_in_a_stream_is_raised_by_the_client(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch)
    with pytest.raises(openai.APIError, match="out of paint"):
        list(client.images.generate(prompt=PROMPT, stream=True))


# Edits and variations.


def test_an_edit_paints_where_the_mask_is_transparent(
    client: openai.OpenAI, library: Any, apple: Image.Image
) -> None:
    answer = client.images.edit(
        image=file(apple),
        mask=file(hole(), "m.png"),
        prompt="a rocket",
        extra_body={**QUICK, "seed": 2},
    )
    assert answer.data is not None
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    expected = library("a rocket", image=apple, mask_image=mask, seed=2, **QUICK).images[0]
    same(picture(answer.data[0]), expected)


def test_a_mask_without_transparent_parts_is_white_where_it_paints(
    client: openai.OpenAI, library: Any, apple: Image.Image
) -> None:
    mask = Image.new("RGB", (64, 64))
    mask.paste((255, 255, 255), (0, 0, 32, 64))
    answer = client.images.edit(
        image=[file(apple)], mask=file(mask), prompt="a rocket", extra_body={**QUICK, "rng_seed": 2}
    )
    assert answer.data is not None
    expected = library("a rocket", image=apple, mask_image=mask, seed=2, **QUICK).images[0]
    same(picture(answer.data[0]), expected)


def test_an_edit_without_a_mask_changes_the_whole(
    client: openai.OpenAI, library: Any, apple: Image.Image
) -> None:
    answer = client.images.edit(
        image=file(apple), prompt="a rocket", extra_body={**QUICK, "seed": 2, "strength": 0.5}
    )
    assert answer.data is not None
    expected = library("a rocket", image=apple, strength=0.5, seed=2, **QUICK).images[0]
    same(picture(answer.data[0]), expected)


def test_of_several_pictures_each_is_edited(
    client: openai.OpenAI, library: Any, apple: Image.Image
) -> None:
    """As with one: each from the seed on, at its own size, in its own transparent part."""
    wide = Image.new("RGB", (96, 64), "green")
    holed = apple.convert("RGBA")
    holed.putalpha(hole().getchannel("A"))
    answer = client.images.edit(
        image=[file(apple), file(wide), file(holed)],
        prompt="a rocket",
        n=2,
        extra_body={**QUICK, "seed": 4},
    )
    assert answer.data is not None
    asked = {"seed": 4, "num_images_per_prompt": 2, **QUICK}
    expected = [
        *library("a rocket", image=apple, **asked).images,
        *library("a rocket", image=wide, **asked).images,
        *library("a rocket", image=holed, mask_image="alpha", **asked).images,
    ]
    assert len(answer.data) == 6
    for found, image in zip(answer.data, expected, strict=True):
        same(picture(found), image)
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 3.5 * PLACES
    assert answer.usage.output_tokens == 7 * PLACES


def test_of_several_pictures_in_a_stream_each_is_told(
    client: openai.OpenAI, apple: Image.Image
) -> None:
    wide = Image.new("RGB", (96, 64), "green")
    events = client.images.edit(
        image=[file(apple), file(wide)], prompt="a rocket", stream=True, extra_body=QUICK
    )
    done = [event for event in events if event.type == "image_edit.completed"]
    assert [event.size for event in done] == ["64x64", "96x64"]
    assert [event.usage.output_tokens for event in done] == [PLACES, 1.5 * PLACES]


@pytest.mark.parametrize(
    ("path", "pictures", "n", "masked", "line"),
    [
        ("edits", 0, 1, False, "image is missing: send the picture that is painted from"),
        ("edits", 2, 1, True, "image has 2 pictures, and a mask is of one"),
        ("edits", 4, 3, False, "image has 4 pictures, each of which is painted 3 times: at most"),
        ("edits", 16, 1, False, "image has 16 pictures"),
        ("variations", 2, 1, False, "image has 2 pictures, and a variation is of one"),
    ],
)
def test_so_many_pictures_are_refused(
    server: Started,
    apple: Image.Image,
    path: str,
    pictures: int,
    n: int,
    masked: bool,
    line: str,
) -> None:
    files = [("image[]", file(apple))] * pictures
    if masked:
        files.append(("mask", file(hole())))
    answer = httpx.post(
        f"{server.base_url}/v1/images/{path}",
        data={"prompt": "x", "n": n},
        files=files or {"other": b""},
    )
    assert answer.status_code == 400
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert error["param"] == "image"
    assert error["message"].startswith(line)


def test_a_transparent_part_of_the_picture_is_a_mask(
    client: openai.OpenAI, library: Any, apple: Image.Image
) -> None:
    holed = apple.convert("RGBA")
    holed.putalpha(hole().getchannel("A"))
    answer = client.images.edit(
        image=file(holed), prompt="a rocket", extra_body={**QUICK, "seed": 2}
    )
    assert answer.data is not None
    expected = library("a rocket", image=holed, mask_image="alpha", seed=2, **QUICK).images[0]
    same(picture(answer.data[0]), expected)


def test_an_edit_streams(client: openai.OpenAI, apple: Image.Image) -> None:
    events = list(
        client.images.edit(image=file(apple), prompt="a rocket", stream=True, partial_images=1)
    )
    assert events[-1].type == "image_edit.completed"


@pytest.mark.parametrize("kind", ["images", "image", "text", "chat"])
def test_an_edit_in_json(server: Started, library: Any, apple: Image.Image, kind: str) -> None:
    link = "data:image/png;base64," + base64.b64encode(file(apple)[1]).decode()
    named: dict[str, Any] = {
        "images": {"images": [{"image_url": link}]},
        "image": {"image": {"image_url": link}},
        "text": {"image": [link.partition(",")[2]]},
        "chat": {"images": [{"image_url": {"url": link}}]},
    }[kind]
    mask = {"image_url": "data:image/png;base64," + base64.b64encode(file(hole())[1]).decode()}
    answer = httpx.post(
        f"{server.base_url}/v1/images/edits",
        json={**named, "mask": mask, "prompt": "a rocket", "seed": 2, **QUICK},
    )
    expected = library(
        "a rocket",
        image=apple,
        mask_image=Image.eval(hole().getchannel("A"), lambda a: 255 - a),
        seed=2,
        **QUICK,
    ).images[0]
    same(picture(answer.json()["data"][0]["b64_json"]), expected)


@pytest.mark.filterwarnings("ignore:deprecated")
def test_a_variation_is_the_picture_again_by_its_own_prompt(
    client: openai.OpenAI, library: Any
) -> None:
    before = client.images.generate(prompt=PROMPT, extra_body={**QUICK, "seed": 1}).data
    assert before is not None
    sent = base64.b64decode(before[0].b64_json or "")
    answer = client.images.create_variation(image=sent, n=1, extra_body={**QUICK, "seed": "4"})
    assert answer.data is not None
    start = Image.open(io.BytesIO(sent)).convert("RGB")
    expected = library(PROMPT, image=start, strength=0.6, seed=4, **QUICK).images[0]
    same(picture(answer.data[0]), expected)


# Errors.


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"size": "large"}, "size"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "number"),
        ({"size": "40000x40000"}, "width"),
        ({"partial_images": 4}, "partial_images"),
        ({"output_compression": 101}, "output_compression"),
        ({"output_format": "gif"}, "output_format"),
        ({"extra_body": {"num_inference_steps": 100_000}}, "num_inference_steps"),
        ({"extra_body": {"num_inference_steps": 0}}, "num_inference_steps"),
        ({"extra_body": {"guidance_scale": "much"}}, "guidance_scale"),
        ({"extra_body": {"guidance_scale": 1e30}}, "guidance_scale"),
        ({"extra_body": {"scheduler": "unheard of"}}, None),
        ({"extra_body": {"seed": 2**70}}, "seed"),
    ],
    ids=str,
)
def test_an_error_names_what_is_wrong(
    client: openai.OpenAI, asked: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.images.generate(prompt=PROMPT, **asked)
    assert caught.value.status_code in (400, 413)
    body = caught.value.body
    assert isinstance(body, dict)
    assert body.keys() == KEYS
    assert body["type"] == "invalid_request_error"
    assert body["param"] == param
    assert body["message"]
    assert "\n" not in body["message"]


def test_a_long_prompt_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="prompt"):
        client.images.generate(prompt="an apple " * 5000)


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="pocket") as caught:
        client.images.generate(prompt=PROMPT, model="another")
    assert caught.value.param == "model"


@pytest.mark.parametrize("data", [b"no picture", b"", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(client: openai.OpenAI, data: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match="image"):
        client.images.edit(image=("a.png", data), prompt="a rocket")


@pytest.mark.parametrize("link", ["http://127.0.0.1/a.png", "file:///etc/passwd", "/etc/passwd"])
def test_no_url_and_no_path_is_read(server: Started, link: str) -> None:
    answer = httpx.post(
        f"{server.base_url}/v1/images/edits",
        json={"images": [{"image_url": link}], "prompt": "a rocket"},
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "image"
    assert answer.headers["x-should-retry"] == "false"


def test_there_is_no_such_endpoint(server: Started) -> None:
    for path in ("/v1/chat/completions", "/v1/images"):
        answer = httpx.post(f"{server.base_url}{path}", json={})
        assert answer.status_code == 404
        assert answer.json()["error"].keys() == KEYS
    assert httpx.get(f"{server.base_url}/v1/images/edits").status_code == 405


def test_a_picture_that_fails_is_asked_for_once(
    server: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a client that tries again by itself, as it does without being told."""
    tried = failing(monkeypatch)
    with (
        openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="any", max_retries=2) as client,
        pytest.raises(openai.InternalServerError, match="out of paint") as caught,
    ):
        client.images.generate(prompt=PROMPT)
    assert len(tried) == 1
    assert caught.value.response.headers["x-should-retry"] == "false"


# Slow pictures.


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture counts as a slow one."""
    monkeypatch.setattr(waiting, "QUIET", 0.0)


@pytest.mark.usefixtures("late")
def test_headers_come_early_and_then_signs_of_life(
    server: Started, client: openai.OpenAI, apple: Image.Image
) -> None:
    url = f"{server.base_url}/v1/images/generations"
    with httpx.stream("POST", url, json={"prompt": PROMPT, "seed": 1, **QUICK}) as answer:
        assert answer.status_code == 200
        assert answer.headers["x-should-retry"] == "false"
        pieces = list(answer.iter_raw())
    body = b"".join(pieces)
    assert body.startswith(b" ")
    same(picture(json.loads(body)["data"][0]["b64_json"]), apple)
    painted = client.images.generate(prompt=PROMPT, extra_body={**QUICK, "seed": 1}).data
    assert painted is not None
    same(picture(painted[0]), apple)


@pytest.mark.usefixtures("late")
def test_a_slow_picture_that_fails_says_so_in_the_body(
    server: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch)
    answer = httpx.post(f"{server.base_url}/v1/images/generations", json={"prompt": PROMPT})
    assert answer.json()["error"].keys() == KEYS
    assert answer.json()["error"]["message"] == "out of paint"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("quiet", [0.0, 10.0])
def test_a_client_that_goes_away_ends_its_picture(
    server: Started, monkeypatch: pytest.MonkeyPatch, quiet: float, stream: bool
) -> None:
    monkeypatch.setattr(waiting, "QUIET", quiet)
    slowly(monkeypatch, 0.1)
    cancelled = server.service.painted["cancelled"]
    url = f"{server.base_url}/v1/images/generations"
    asked = {"prompt": PROMPT, "num_inference_steps": 100, "stream": stream}
    wait = httpx.Timeout(10, read=0.5)
    with (
        contextlib.suppress(httpx.ReadTimeout),
        httpx.stream("POST", url, json=asked, timeout=wait) as answer,
    ):
        next(answer.iter_raw())
    server.until_idle()
    assert server.service.painted["cancelled"] == cancelled + 1


def test_a_full_queue_says_when_to_come_again(
    server: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    let, paint = threading.Event(), Plan.paint

    def waits(plan: Plan) -> Any:
        let.wait(30)
        return paint(plan)

    monkeypatch.setattr(Plan, "paint", waits)
    monkeypatch.setattr(server.service.queue, "most", 1)
    jobs = f"{server.base_url}/v1/jobs"
    try:
        assert httpx.post(jobs, json={"prompt": PROMPT, **QUICK}).status_code == 202
        while not server.service.queue.working:
            time.sleep(0.01)
        assert httpx.post(jobs, json={"prompt": PROMPT, **QUICK}).status_code == 202
        answer = httpx.post(f"{server.base_url}/v1/images/generations", json={"prompt": PROMPT})
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert "x-should-retry" not in answer.headers
        assert answer.json()["error"]["type"] == "rate_limit_error"
    finally:
        let.set()
        server.until_idle()


# Other programs, in their own words.


def test_open_webui_s_openai_engine(server: Started, apple: Image.Image) -> None:
    """Its JSON for pictures, its form for edits, in which every field is text."""
    headers = {"Authorization": "Bearer none"}
    data = {"model": "dall-e-2", "prompt": PROMPT, "n": 1, "size": "64x64", "steps": 3}
    answer = httpx.post(
        f"{server.base_url}/v1/images/generations",
        json={**data, "response_format": "b64_json"},
        headers=headers,
    )
    assert answer.status_code == 200
    for image in answer.json()["data"]:
        assert not image.get("url")
        assert picture(image["b64_json"]).size == (64, 64)
    form = {"model": "", "prompt": PROMPT, "n": "1", "response_format": "b64_json"}
    for name in ("image", "image[]"):
        answer = httpx.post(
            f"{server.base_url}/v1/images/edits?api-version=1",
            data=form,
            files=[(name, file(apple))],
            headers=headers,
        )
        assert answer.status_code == 200
        assert picture(answer.json()["data"][0]["b64_json"]).size == (64, 64)


def test_lobehub(client: openai.OpenAI) -> None:
    """openai's client with parameters of its own; response_format is not sent, and b64 expected."""
    answer = client.images.generate(
        model="pocket",
        prompt=PROMPT,
        n=1,
        size="auto",
        extra_body={"seed": 5, "cfg": 2.5, "steps": 4, "width": 64, "aspectRatio": "1:1"},
    )
    assert answer.data is not None
    assert answer.data[0].b64_json
