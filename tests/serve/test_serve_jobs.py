"""Jobs in Pleinair's own terms, by plain HTTP."""

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pleinair.runtime.families import FAMILIES
from pleinair.runtime.options.groups import CALL
from pleinair.runtime.options.option import declared
from pleinair.runtime.record import metadata
from servers import Started, failing, slowly

ASKED: dict[str, Any] = {"prompt": "a red apple", "seed": 1}


@pytest.fixture
def client(server: Started) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base_url, timeout=60) as made:
        yield made
    server.until_idle()


def finished(client: httpx.Client, id: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        job: dict[str, Any] = client.get(f"/v1/jobs/{id}").json()
        if job["state"] in ("done", "failed", "cancelled"):
            return job
        time.sleep(0.01)
    raise AssertionError("the job is not over")


def events(client: httpx.Client, id: str) -> list[tuple[str, dict[str, Any]]]:
    told = []
    with client.stream("GET", f"/v1/jobs/{id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told.append((name, json.loads(line.removeprefix("data: "))))
    return told


def base64_of(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def test_a_job_paints_the_library_s_pictures(client: httpx.Client, library: Any) -> None:
    asked = {**ASKED, "number": 2, "num_inference_steps": 3, "scheduler": "euler"}
    answer = client.post("/v1/jobs", json=asked)
    assert answer.status_code == 202
    begun = answer.json()
    assert begun["state"] in ("waiting", "painting", "done")
    job = finished(client, begun["id"])
    assert job["state"] == "done"
    assert job["progress"] == 1
    assert [picture["seed"] for picture in job["pictures"]] == [1, 2]
    for picture in job["pictures"]:
        found = Image.open(io.BytesIO(client.get(picture["url"]).content))
        expected = library(
            "a red apple", seed=picture["seed"], num_inference_steps=3, scheduler="euler"
        )
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected.images[0]))
        assert metadata.of_picture(found)["seed"] == picture["seed"]
        assert picture["info"]["scheduler"] == "euler"


def test_its_events_tell_all_of_it(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 0.02)
    asked = {**ASKED, "num_inference_steps": 6}
    first = client.post("/v1/jobs", json=asked).json()
    second = client.post("/v1/jobs", json={**asked, "number": 2}).json()
    told = events(client, second["id"])
    names = [name for name, _ in told]
    assert names[0] == "queued"
    assert {"queued", "progress", "preview", "picture", "done"} == {*names}
    assert names.count("picture") == 2
    assert names[-1] == "done"
    by_name = dict(reversed(told))
    assert by_name["queued"]["ahead"] >= 1
    shares = [data["progress"] for name, data in told if name == "progress"]
    assert shares == sorted(shares)
    preview = Image.open(io.BytesIO(base64.b64decode(by_name["preview"]["jpeg"])))
    assert preview.size == (64, 64)
    assert told[-1][1]["state"] == "done"
    again = events(client, second["id"])  # whoever comes later is told of the pictures again
    assert [name for name, _ in again] == ["picture", "picture", "done"]
    assert finished(client, first["id"])["state"] == "done"


def test_seconds_are_told_once_something_was_painted(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {**ASKED, "num_inference_steps": 4}
    finished(client, client.post("/v1/jobs", json=asked).json()["id"])
    slowly(monkeypatch, 0.02)
    job = client.post("/v1/jobs", json=asked).json()
    assert job["seconds"] > 0
    finished(client, job["id"])


def test_the_newest_of_a_client_s_jobs_are_listed_first(client: httpx.Client) -> None:
    ids = [
        client.post("/v1/jobs", json={**ASKED, "num_inference_steps": 1}).json()["id"]
        for _ in range(3)
    ]
    listed = client.get("/v1/jobs", params={"limit": 3}).json()
    assert [job["id"] for job in listed["data"]] == ids[::-1]
    for wrong in (0, 1001, "many"):
        assert client.get("/v1/jobs", params={"limit": wrong}).status_code == 400


def test_a_cancelled_job_stops_within_a_step(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, server: Started
) -> None:
    slowly(monkeypatch, 0.1)
    job = client.post("/v1/jobs", json={**ASKED, "num_inference_steps": 100}).json()
    while client.get(f"/v1/jobs/{job['id']}").json()["progress"] == 0:
        time.sleep(0.01)
    cancelled = client.delete(f"/v1/jobs/{job['id']}").json()
    assert cancelled["state"] == "cancelled"
    begun = time.monotonic()
    server.until_idle()
    assert time.monotonic() - begun < 2
    assert events(client, job["id"])[-1][0] == "cancelled"
    assert client.get(f"/v1/jobs/{job['id']}/pictures/0.png").status_code == 404
    assert client.delete(f"/v1/jobs/{job['id']}").json()["state"] == "cancelled"


def test_a_failed_job_says_why(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch)
    job = finished(client, client.post("/v1/jobs", json=ASKED).json()["id"])
    assert (job["state"], job["error"]) == ("failed", "out of paint")


def test_pictures_are_sent_as_base64(client: httpx.Client, library: Any) -> None:
    start = Image.new("RGB", (64, 64), (200, 30, 30))
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    asked = {**ASKED, "image": base64_of(start), "mask_image": base64_of(mask), "strength": 0.9}
    job = finished(client, client.post("/v1/jobs", json=asked).json()["id"])
    found = Image.open(io.BytesIO(client.get(job["pictures"][0]["url"]).content))
    expected = library("a red apple", image=start, mask_image=mask, strength=0.9, seed=1)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected.images[0]))
    assert job["arguments"] == {"prompt": "a red apple", "strength": 0.9}


# The model of a job.


def test_the_model_has_the_declared_options(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["JobRequest"]
    offered = schema["properties"].keys()
    options = {name for group in CALL for name in declared(group)}
    others = {name for kind in FAMILIES[1:] for name in declared(kind.options)}
    hidden = {"latents", "output_type", "num_images_per_prompt", "safety"}
    hidden |= {"denoising_start", "denoising_end"}
    around = {"model", "profile", "loras", "controlnets", "number", "seed"}
    assert offered == options - hidden | around
    assert not offered & others  # the bundled model has none of theirs
    assert schema["additionalProperties"] is False
    steps = schema["properties"]["num_inference_steps"]
    assert "denoising steps" in steps["description"]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"promt": "a rocket"}, "promt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"number": 0}, "number"),
        ({"number": 11}, "number"),
        ({"syntax": "other"}, "syntax"),
        ({"width": 65}, "width"),
        ({"width": 100_000}, "width"),
        ({"num_inference_steps": 151}, "num_inference_steps"),
        ({"strength": 0.5}, None),
        ({"image": "/etc/passwd"}, "image"),
        ({"image": "alpha"}, "image"),
        ({"image": ""}, "image"),
        ({"mask_image": "alpha"}, "mask_image"),
        ({"control_image": "canny:/etc/passwd"}, "control_image"),
        ({"model": "../pocket"}, "model"),
        ({"loras": [{"name": "../a"}]}, "loras"),
        ({"loras": [{"weight": 1}]}, "loras"),
        ({"controlnets": [{"name": "canny"}]}, "controlnets"),
        ({"prompt": "an apple <lora:../../etc/passwd:1>"}, "loras"),
        ({"seed": 10**40}, "seed"),
        ({"safety": "off"}, "safety"),
        ({"output_type": "latent"}, "output_type"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(
    client: httpx.Client, asked: dict[str, Any], param: str | None
) -> None:
    answer = client.post("/v1/jobs", json={**ASKED, **asked})
    assert answer.status_code in (400, 404, 413)
    error = answer.json()["error"]
    assert error["message"]
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"a"',
        b"[" * 100_000,
        b"\xff",
        b'{"seed": 1' + b"0" * 5000 + b"}",
    ],
)
def test_what_is_no_job_is_refused(client: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/jobs", content=body, headers=headers)
    assert answer.status_code == 400
    assert "body" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] is None


def test_a_form_is_told_what_to_send(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", data={"prompt": "a"})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_no_number_is_none(client: httpx.Client, number: str) -> None:
    body = f'{{"prompt": "a", "guidance_scale": {number}}}'
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_an_unknown_job_is_not_found(client: httpx.Client) -> None:
    for path in ("", "/events", "/pictures/0.png"):
        assert client.get(f"/v1/jobs/nothing{path}").status_code == 404
    assert client.delete("/v1/jobs/nothing").status_code == 404
    job = client.post("/v1/jobs", json={**ASKED, "num_inference_steps": 1}).json()
    for index in ("7", "-1", "a"):
        answer = client.get(f"/v1/jobs/{job['id']}/pictures/{index}.png")
        assert answer.status_code in (400, 404)
