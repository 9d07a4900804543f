"""Whatever is sent, a server answers, and not by a mistake of its own.

300 requests of every kind here; ten thousand, and the memory that they leave, by
`pytest -m slow tests/serve/test_serve_fuzz.py`.
"""

import base64
import gc
import io
import json
import os
import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image
from schemathesis.checks import not_a_server_error

from pleinair.runtime.engines.heap import give_back
from pleinair.serve import process
from pleinair.serve.settings import Settings
from servers import Started, started

POCKET = Path(__file__).parents[2] / "models" / "pocket"
SMALL = {"width": 64, "height": 64}
SEED = int(os.environ.get("PLEINAIR_FUZZ_SEED", "1"))


@pytest.fixture(autouse=True)
def _compiled_once() -> None:
    """Not here: what stays in memory is to be the server's alone."""


@pytest.fixture(scope="module")
def settled() -> Iterator[None]:
    """As in a server's own process. Nothing may have computed in this one before."""
    with mock.patch.dict(os.environ):  # torch's kernels in other tests are not bounded so
        process.settle()
        yield


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A server whose pictures are small and of few steps, whatever is asked."""
    asked = Settings(
        model=(str(POCKET),),
        data=tmp_path_factory.mktemp("fuzz"),
        max_pixels=64 * 64,
        max_steps=2,
        max_n=2,
        max_upload=200_000,
        keep=10,
    )
    with started(asked) as one:
        yield one


def image(random: random.Random) -> bytes:
    data = io.BytesIO()
    size = random.choice([(64, 64), (8, 8), (1, 1), (300, 20)])
    mode = random.choice(["RGB", "RGBA", "L", "P", "1", "I;16"])
    Image.new(mode, size).save(data, "PNG")
    content = data.getvalue()
    if random.random() < 0.3:  # a damaged one
        place = random.randrange(len(content))
        content = content[:place] + random.randbytes(random.randrange(9)) + content[place + 2 :]
    return content


def value(random: random.Random, depth: int = 0) -> Any:
    """Any JSON, mostly of the kinds that break servers."""
    makers: list[Callable[[], Any]] = [
        lambda: None,
        lambda: random.choice([True, False]),
        lambda: random.choice([0, 1, 2, -1, 64, 65, 2**31, 2**63, -(2**64), 10**30]),
        lambda: random.choice([0.0, 0.5, 1.0, -0.5, 1e-300, 1e308]),
        lambda: random.choice(["", "a red apple", "auto", "64x64", "0x0", "9" * 400, "(", "\0"]),
        lambda: random.choice(
            ["[a:b:0.5]", "<lora:a:1>", "((a:1.3)", "AND", "../../etc", "\ud800"]
        ),
        lambda: "".join(random.choices(string.printable, k=random.randrange(40))),
        lambda: "".join(chr(random.randrange(0x20, 0x1F600)) for _ in range(5)),
        lambda: base64.b64encode(image(random)).decode(),
        lambda: "data:image/png;base64," + base64.b64encode(image(random)).decode(),
    ]
    if depth < 3:
        makers.append(lambda: [value(random, depth + 1) for _ in range(random.randrange(4))])
        makers.append(
            lambda: {str(value(random, 3))[:20]: value(random, depth + 1) for _ in range(2)}
        )
    return random.choice(makers)()


@dataclass(frozen=True)
class Operation:
    """What the schema says can be asked: fields of its body, none where it has none."""

    method: str
    path: str
    fields: tuple[str, ...]


def operations_of(server: Started) -> list[Operation]:
    said = httpx.get(f"{server.base_url}/openapi.json").json()
    schemas = said["components"]["schemas"]
    found = []
    for path, methods in said["paths"].items():
        for method, one in methods.items():
            content = one.get("requestBody", {}).get("content", {}).values()
            bodies = [kind["schema"] for kind in content]
            named = {name for body in bodies for name in _properties(body, schemas)}
            found.append(Operation(method.upper(), path, tuple(sorted(named))))
    return found


def _properties(body: dict[str, Any], schemas: dict[str, Any]) -> list[str]:
    if "$ref" in body:
        body = schemas[body["$ref"].rpartition("/")[2]]
    return list(body.get("properties", {}))


def request(random: random.Random, operations: list[Operation]) -> dict[str, Any]:
    """A request as httpx takes it: near what is right, so that it comes far."""
    wanted = random.choice([one for one in operations if one.fields or random.random() < 0.1])
    method, path = wanted.method, re.sub(r"\{.*?\}", lambda _: name(random), wanted.path)
    if random.random() < 0.05:
        method = random.choice(["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"])
    if random.random() < 0.05:
        path = random.choice(["/mcp", "/openapi.json", "/" + name(random), "/v1/" + name(random)])
    known = {**SMALL, "prompt": "a red apple", "num_inference_steps": 1, "steps": 1}
    said: dict[str, Any] = {field: known[field] for field in wanted.fields if field in known}
    for _ in range(random.randrange(4)):
        said[random.choice([*wanted.fields, "nothing"])] = value(random)
    made: dict[str, Any] = {"method": method, "url": path}
    kind = random.randrange(10)
    forms = "edits" in path or "variations" in path
    if kind < (4 if forms else 8):
        made["content"] = json.dumps(said).encode()
        made["headers"] = {"Content-Type": "application/json"}
    elif kind < 8:
        made["data"] = {field: str(one).encode(errors="replace") for field, one in said.items()}
        parts = random.choices(["image", "image[]", "mask", "image[0]", "other"], k=2)
        made["files"] = [(part, ("a.png", image(random), "image/png")) for part in parts]
    else:
        made["content"] = random.randbytes(random.randrange(300))
        made["headers"] = {
            "Content-Type": random.choice(
                [
                    *("application/json", "multipart/form-data", "multipart/form-data; boundary=x"),
                    *("text/plain", "application/x-www-form-urlencoded", "", "application/json;;"),
                ]
            )
        }
    return made


def name(random: random.Random) -> str:
    """A part of a path."""
    return quote("".join(random.choices("abc0-.%~\\?#;é ", k=random.randrange(1, 6))), safe="%~;")


def fuzz(server: Started, number: int, seed: int) -> dict[int, int]:
    """Send so many; how often each status came."""
    source, operations = random.Random(seed), operations_of(server)
    statuses: dict[int, int] = {}
    with httpx.Client(base_url=server.base_url, timeout=300) as client:
        for i in range(number):
            asked = request(source, operations)
            answer = client.request(**asked)
            told = (
                f"request {i} of seed {seed}: {asked} -> {answer.status_code} {answer.text[:300]}"
            )
            assert answer.status_code < 500 or "/server-" in asked["url"], told
            if answer.headers.get("content-type", "").startswith("application/json"):
                said = answer.json() if answer.content else {}
                error = said.get("error") if isinstance(said, dict) else None
                assert not (isinstance(error, dict) and error.get("type") == "server_error"), told
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            if i % 20 == 0:
                server.until_idle()
    server.until_idle()
    return statuses


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_request_is_a_mistake_of_the_server(quick: Started) -> None:
    statuses = fuzz(quick, 300, SEED)
    assert {200, 202, 400, 404} <= statuses.keys()
    assert statuses[200] + statuses[202] > 20  # some came through


def resident(server: Started) -> int:
    """Bytes, with graphs of the usual size in memory, and nothing that the C library only keeps."""
    import psutil

    asked = {"prompt": "a red apple", "num_inference_steps": 1}
    answer = httpx.post(f"{server.base_url}/v1/images/generations", json=asked, timeout=300)
    assert answer.status_code == 200
    server.until_idle()
    gc.collect()
    give_back()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_ten_thousand_requests_leave_nothing(settled: None, quick: Started) -> None:
    fuzz(quick, 2000, SEED + 1)
    before = resident(quick)
    fuzz(quick, 8000, SEED + 2)
    assert resident(quick) - before < 50 << 20


# By the schema.

HYPOTHESIS = settings(
    max_examples=int(os.environ.get("PLEINAIR_FUZZ_EXAMPLES", "2")),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_requests_that_the_schema_allows_are_answered(quick: Started) -> None:
    """More of them by PLEINAIR_FUZZ_EXAMPLES=1000."""
    schema = schemathesis.openapi.from_url(f"{quick.base_url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:
        if "/server-" in operation.path:  # 501, as webui answers where it may not be stopped
            continue

        @HYPOTHESIS
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            case.call_and_validate(checks=[not_a_server_error], timeout=300)

        answered()
    quick.until_idle()
