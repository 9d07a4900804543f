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
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from PIL import Image
from schemathesis.checks import not_a_server_error
from servers import Started, started

from pleinair.serve.settings import Settings

POCKET = Path(__file__).parents[2] / "models" / "pocket"
SEED = int(os.environ.get("PLEINAIR_FUZZ_SEED", "1"))


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
        lambda: random.choice(["[a:b:0.5]", "<lora:a:1>", "((a:1.3)", "AND", "../../etc", "\ud800"]),
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


def request(random: random.Random, fields: list[str]) -> dict[str, Any]:
    """A request as httpx takes it: near what is right, so that it comes far."""
    path = random.choice(
        [
            *("/v1/jobs", "/v1/images/generations", "/v1/images/edits", "/v1/images/variations") * 4,
            *("/v1/models", "/v1/models/x", "/v1/jobs/x", "/v1/jobs/x/events", "/health", "/ready"),
            *("/metrics", "/mcp", "/openapi.json", "/v1/images/files/x", "/sdapi/v1/txt2img"),
            "/" + "".join(random.choices("abc/.%~\\?#;é", k=6)),
        ]
    )
    method = random.choice(["POST"] * 12 + ["GET", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"])
    said: dict[str, Any] = {"prompt": "a red apple", "num_inference_steps": 1}
    for _ in range(random.randrange(4)):
        said[random.choice(fields)] = value(random)
    made: dict[str, Any] = {"method": method, "url": path}
    kind = random.randrange(10)
    if kind < 5:
        made["content"] = json.dumps(said).encode()
        made["headers"] = {"Content-Type": "application/json"}
    elif kind < 8:
        made["data"] = {name: str(one) for name, one in said.items() if "\ud800" not in str(one)}
        names = random.choices(["image", "image[]", "mask", "image[0]", "other"], k=2)
        made["files"] = [(name, ("a.png", image(random), "image/png")) for name in names]
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


def fields_of(server: Started) -> list[str]:
    schemas = httpx.get(f"{server.base_url}/openapi.json").json()["components"]["schemas"]
    named = {
        name for schema in ("JobRequest", "Generation") for name in schemas[schema]["properties"]
    }
    return [*sorted(named - {"prompt", "num_inference_steps"}), "image", "mask", "images", "nothing"]


def fuzz(server: Started, number: int, seed: int) -> dict[int, int]:
    """Send so many; how often each status came."""
    source, fields = random.Random(seed), fields_of(server)
    statuses: dict[int, int] = {}
    with httpx.Client(base_url=server.base_url, timeout=60) as client:
        for i in range(number):
            asked = request(source, fields)
            answer = client.request(**asked)
            told = f"request {i} of seed {seed}: {asked} -> {answer.status_code} {answer.text[:300]}"
            assert answer.status_code < 500, told
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


def resident() -> int:
    import psutil

    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_ten_thousand_requests_leave_nothing(quick: Started) -> None:
    fuzz(quick, 2000, SEED + 1)
    before = resident()
    fuzz(quick, 8000, SEED + 2)
    assert resident() - before < 50 << 20


# By the schema.


@pytest.fixture
def api_schema(quick: Started) -> Any:
    return schemathesis.openapi.from_url(f"{quick.base_url}/openapi.json")


schema = schemathesis.pytest.from_fixture("api_schema").exclude(path_regex="events$")


@schema.parametrize()
@settings(
    max_examples=int(os.environ.get("PLEINAIR_FUZZ_EXAMPLES", "8")),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_schema_s_requests_are_answered(case: Any) -> None:
    case.call_and_validate(checks=[not_a_server_error])
