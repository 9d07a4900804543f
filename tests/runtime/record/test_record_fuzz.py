"""Random and damaged texts, JSON and files: what is read, or one line that says what is wrong."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from program_samples import SAMPLES, comfy_graph

from pleinair.runtime.errors import PleinairError
from pleinair.runtime.record import infotext, metadata
from pleinair.runtime.record.programs import READERS
from pleinair.runtime.record.saving import save

# Every run tries the same, within seconds.
BOUNDED = settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
)
PICTURE = Image.new("RGB", (8, 8))
TEXTS = [texts for texts, _, _ in SAMPLES.values()]
NAMES = sorted({name for texts in TEXTS for name in texts} | {"workflow", "Prompt", "comment"})
VALUES = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats()
    | some.sampled_from(["", "a boat", "9" * 30, "1e400", "\0", "\ud800", "<lora:x:1>", "-2"]),
    lambda inner: (
        some.lists(inner, max_size=3)
        | some.dictionaries(some.sampled_from(["prompt", "weight", "name", "v2", "0"]), inner)
    ),
    max_leaves=6,
)


def in_one_line(error: PleinairError) -> None:
    assert "\n" not in str(error)


def checked(texts: dict[str, str]) -> None:
    """All that `metadata.read` does with texts, without the file around them."""
    for reader in READERS.values():
        try:
            said = reader(texts)
        except PleinairError as error:
            said = in_one_line(error)
        if said is not None:
            found = metadata._checked(metadata._converted(said.settings))
            assert found.settings.keys() <= metadata.TYPES.keys()
            assert all(word.isprintable() for word in found.ignored)
            # What has been read can be written again, by both of our writers.
            assert metadata.described(found.settings).keys() == {"parameters", "pleinair"}
            assert metadata.exif(found.settings) is not None


@BOUNDED
@given(text=some.text(max_size=200), field=some.text('a:,"[{\n\\ ', max_size=200))
def test_texts(text: str, field: str) -> None:
    infotext.read(text)
    infotext.read(f"{text}\nSteps: 2, Seed: 1, Size: 64x64, {field}")


@BOUNDED
@given(
    texts=some.sampled_from(TEXTS),
    place=some.integers(0, 2000),
    put=some.text('{}[]",:0a\\\n', max_size=6),
    cut=some.integers(0, 40),
)
def test_damaged_samples(texts: dict[str, str], place: int, put: str, cut: int) -> None:
    name = sorted(texts)[place % len(texts)]
    at = place % (len(texts[name]) + 1)
    checked({**texts, name: texts[name][:at] + put + texts[name][at + cut :]})


@BOUNDED
@given(texts=some.sampled_from(TEXTS), data=some.data())
def test_values_of_other_types(texts: dict[str, str], data: Any) -> None:
    """In a sample's JSON any value is replaced by another."""
    name = data.draw(some.sampled_from(sorted(texts)))
    try:
        content = json.loads(texts[name])
    except ValueError:
        content = {}
    for _ in range(3):
        inside = content
        while isinstance(inside, dict) and inside:
            key = data.draw(some.sampled_from(sorted(inside)))
            if not isinstance(inside[key], dict) or data.draw(some.booleans()):
                inside[key] = data.draw(VALUES)
                break
            inside = inside[key]
    checked({**texts, name: json.dumps(content)})


@BOUNDED
@given(data=some.data())
def test_graphs(data: Any) -> None:
    """ComfyUI's, with links to anywhere and nodes of other kinds."""
    graph = comfy_graph()
    kinds = ["KSampler", "LoraLoader", "CLIPSetLastLayer", "SamplerCustomAdvanced", "X"]
    inputs = ["model", "clip", "text", "samples", "seed", "width", "lora_name", "cfg", "guider"]
    for _ in range(4):
        node = graph[data.draw(some.sampled_from(sorted(graph)))]
        link = [data.draw(some.sampled_from(sorted(graph))), 0]
        node["inputs"][data.draw(some.sampled_from(inputs))] = data.draw(VALUES | some.just(link))
        node["class_type"] = data.draw(some.sampled_from([node["class_type"], *kinds]))
    checked({"prompt": json.dumps(graph)})


@BOUNDED
@given(names=some.lists(some.sampled_from(NAMES), max_size=4), data=some.data())
def test_texts_under_any_name(names: list[str], data: Any) -> None:
    texts = {name: data.draw(some.sampled_from(TEXTS)) for name in names}
    checked({name: next(iter(text.values())) for name, text in texts.items()})


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    """Bytes turned over, cut out and doubled, in a picture with texts of three programs."""
    info, exif = PngInfo(), Image.Exif()
    for texts in (TEXTS[0], SAMPLES["ComfyUI"][0], SAMPLES["InvokeAI 3"][0]):
        for key, text in texts.items():
            info.add_text(key, text, zip=True)
    exif[ExifTags.Base.Model] = f"prompt:{json.dumps(comfy_graph())}"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + infotext.write(
        {"prompt": "a boat", "seed": 1}
    ).encode("utf-16-be")
    buffer = io.BytesIO()
    PICTURE.save(buffer, Image.registered_extensions()[Path(name).suffix], pnginfo=info, exif=exif)
    content, dice = buffer.getvalue(), random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(damaged))
            change = dice.randrange(3)
            damaged[at : at + change] = bytes([dice.randrange(256)]) * dice.randrange(4)
        (tmp_path / name).write_bytes(damaged)
        try:
            assert metadata.read(tmp_path / name).settings.keys() <= metadata.TYPES.keys()
        except PleinairError as error:
            in_one_line(error)
    save(PICTURE, tmp_path / f"again-{name}", {"prompt": "a boat"})
