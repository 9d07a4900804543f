"""Adapter files made to harm: each is one line, within bounds, before anything is built."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime.adapters import inversion, lora, pickles, safetensors
from pleinair.runtime.errors import AdapterError

MEGABYTES = 1 << 20


def zipped(path: Path, pickled: bytes, *, how: int = zipfile.ZIP_STORED, size: int = 64) -> Path:
    """A file of torch.save around a pickle, with one storage "0"."""
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", b"\0" * size)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def refused(read: Callable[[Path], Any], path: Path, most: int = 32 * MEGABYTES) -> str:
    """The one line that reading gives; AssertionError where it takes more memory than that."""
    tracemalloc.start()
    try:
        with pytest.raises(AdapterError) as error:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    line = str(error.value)
    assert path.name in line
    assert "\n" not in line
    assert len(line) < 1000
    return line


# Opcodes: ( mark, } dictionary, ] list, ) tuple, \x85 a tuple of one, s item, u items, a append,
# q/r memo, h/j from it, R call, b build, . end.
DEEP = b")" + b"\x85" * 200_000
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQ"
PICKLES = {
    "a deep key": b"}" + DEEP + b"K\x01s.",
    "a deep value": b"}" + text("a") + DEEP + b"s.",
    "deep lists": b"]" * 200_000 + b"a" * 199_999 + b".",
    "a tuple as a key": b"})K\x01s.",
    "a list as a key": b"}]K\x01s.",
    "a far memo": b"]r\xff\xff\xff\x7f.",  # Python's own takes 16 GB for it
    "a far memo, by text": b"]p" + b"9" * 4000 + b"\n.",
    "from an empty memo": b"j\xff\xff\xff\x7f.",
    "a long text": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "a long number": b"\x8b\xff\xff\xff\x7f1.",
    "endless": b"]" * 600_000,
    "no end": b"}",
    "nothing": b"",
    "an empty stack": b"s.",
    "no mark": b"}u.",
    "a call of a dictionary": b"ccollections\nOrderedDict\n(}tR.",
    "a call of a text": text("os") + b")R.",
    "an instance": b"(ios\nsystem\n.",
    "an extension": b"\x82\x01.",
    "a set": b"\x8f.",
    "a persistent text": b"Pstorage\n.",
    "a short persistent id": b"(X\x07\0\0\0storagetQ.",
    "eval": b"c__builtin__\neval\n(" + text("1") + b"tR.",
    "a long name": b"c" + b"x" * 100_000 + b"\ny\n.",
    "attributes of a dictionary": b"}" + text("items") + b"b.",
    "a state of a function": b"ctorch._utils\n_rebuild_parameter\n}b.",
    "many axes": TENSOR
    + STORAGE
    + b"K\0(("
    + b"K\x01" * 90_000
    + b"t("
    + b"K\x01" * 90_000
    + b"t\x89)tR.",
    "texts as sizes": TENSOR + STORAGE + b"K\0(X\x01\0\0\0at(K\x01t\x89)tR.",
    "huge sizes": TENSOR + STORAGE + b"K\0(\x8a\x09" + b"\xff" * 8 + b"\0t(K\0t\x89)tR.",
    "a negative offset": TENSOR + STORAGE + b"J\xff\xff\xff\xff(K\x01t(K\x01t\x89)tR.",
}


@pytest.mark.parametrize("case", PICKLES)
def test_pickles(case: str, tmp_path: Path) -> None:
    refused(lora.read, zipped(tmp_path / "x.pt", PICKLES[case]), 150 * MEGABYTES)


def test_views_cost_nothing(tmp_path: Path) -> None:
    """A thousand tensors of one storage are a thousand views of it; none may be larger."""
    one = TENSOR + STORAGE + b"K\0(J\x00\x00\x10\x00t(K\x01t\x89)tR"
    many = b"}(" + b"".join(text(f"k{i}") + one for i in range(1000)) + b"u."
    file = zipped(tmp_path / "many.pt", many, size=4 * MEGABYTES)
    tracemalloc.start()
    assert len(pickles.read(file)) == 1000
    assert tracemalloc.get_traced_memory()[1] < 32 * MEGABYTES
    tracemalloc.stop()
    wide = TENSOR + STORAGE + b"K\0(J\x00\x00\x20\x00t(K\0t\x89)tR."
    line = refused(pickles.read, zipped(tmp_path / "wide.pt", wide, size=4 * MEGABYTES))
    assert "larger than its numbers" in line


def test_zips(tmp_path: Path) -> None:
    """Compressed, overlapping or with sizes that lie: none is unpacked."""
    bomb = zipped(tmp_path / "b.pt", b"}.", how=zipfile.ZIP_DEFLATED, size=40 * MEGABYTES)
    assert "compressed" in refused(pickles.read, bomb)
    lying = zipped(tmp_path / "l.pt", b"}.")
    content = bytearray(lying.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    lying.write_bytes(bytes(content))
    refused(pickles.read, lying)
    with zipfile.ZipFile(tmp_path / "two.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"}.")
        archive.writestr("b/data.pkl", b"}.")
    assert "data.pkl" in refused(pickles.read, tmp_path / "two.pt")


def test_what_torch_writes_is_within_the_bounds(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {f"lora_unet_{i}.lora_up.weight": torch.full((2, 1), float(i)) for i in range(900)}
    module = torch.nn.Linear(3, 2)
    torch.save({"state_dict": state, "_": module.state_dict()}, tmp_path / "large.ckpt")
    found = pickles.read(tmp_path / "large.ckpt")["state_dict"]
    assert len(found) == 900
    assert found["lora_unet_899.lora_up.weight"].tolist() == [[899], [899]]


# Headers of safetensors.


def headed(path: Path, header: Any, body: bytes = b"\0" * 16, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def tensor(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    sizes = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": sizes, "data_offsets": [begin, end]}


HEADERS: dict[str, Any] = {
    "overlapping": {"a": tensor(0, 16), "b": tensor(8, 16)},
    "with gaps": {"a": tensor(0, 4), "b": tensor(8, 16)},
    "short": {"a": tensor(0, 8)},
    "beyond the end": {"a": tensor(0, 64)},
    "negative": {"a": {**tensor(0, 16), "data_offsets": [-4, 12]}},
    "backwards": {"a": {**tensor(0, 16), "data_offsets": [16, 0]}},
    "huge offsets": {"a": {**tensor(0, 16), "data_offsets": [0, 10**30]}},
    "huge shapes": {"a": tensor(0, 16, [10**12, 10**12])},
    "negative shapes": {"a": tensor(0, 16, [-2, -2])},
    "many axes": {"a": tensor(0, 16, [1] * 100_000 + [4])},
    "a shape that is text": {"a": tensor(0, 16, "4")},
    "an unknown type": {"a": tensor(0, 16, dtype="F4_WEIRD")},
    "a type that is a list": {"a": tensor(0, 16, dtype=["F32"])},
    "a tensor that is a list": {"a": [1, 2]},
    "no type": {"a": {"shape": [4], "data_offsets": [0, 16]}},
    "a list": [1, 2],
    "metadata of numbers": {"__metadata__": {"a": 1}, "a": tensor(0, 16)},
    "metadata that is a list": {"__metadata__": [], "a": tensor(0, 16)},
    "deep": b'{"a":' + b"[" * 200_000,
    "deep metadata": b'{"__metadata__":' + b'{"a":' * 200_000,
    "not JSON": b"{'a': 1}",
    "not text": b"\xff\xfe{}",
    "twice": b'{"a": %b, "a": %b}'
    % tuple(json.dumps(tensor(*at)).encode() for at in ((0, 8), (8, 16))),
    "NaN": b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 16]}}',
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(case: str, tmp_path: Path) -> None:
    for read in (safetensors.read, lora.read, inversion.read):
        refused(read, headed(tmp_path / "x.safetensors", HEADERS[case]))


def test_lengths_of_headers(tmp_path: Path) -> None:
    for length in (2**63, 2**40, 17 + 100):
        refused(safetensors.read, headed(tmp_path / "x.safetensors", b"{}", length=length))
    long = headed(tmp_path / "long.safetensors", b"{" + b" " * (40 * MEGABYTES) + b"}")
    assert "header of" in refused(safetensors.read, long)
    for content in (b"", b"\0" * 7, b"\0" * 8):
        (tmp_path / "short.safetensors").write_bytes(content)
        refused(safetensors.read, tmp_path / "short.safetensors")


@pytest.mark.parametrize("name", ["a\nb", "x" * 100_000, "\x1b[31m", "lora_unet_" + "_" * 50_000])
def test_names_are_cut_and_stay_in_their_line(name: str, tmp_path: Path) -> None:
    line = refused(lora.read, headed(tmp_path / "x.safetensors", {name: tensor(0, 16)}))
    assert line.isprintable()


def test_arguments_of_other_kinds(tmp_path: Path) -> None:
    for weight in ("much", None, 10**400, [1], float("inf")):
        with pytest.raises(AdapterError, match=r"x\.safetensors.*no number"):
            lora.opened((tmp_path / "x.safetensors", weight))  # type: ignore[arg-type]
    for name in ("x" * 5000, "a\0b", "x" * 5000 + ":0.5", ":", "", "::"):
        for opened in (lora.opened, inversion.opened):
            with pytest.raises(AdapterError):
                opened(name)


def test_key_patterns_take_no_time(tmp_path: Path) -> None:
    """Regular expressions over names of any length: no name makes them try twice."""
    names = [
        "lora_" * 20_000,
        "a.lora." * 20_000,
        "_lora_down" * 10_000,
        "b" * 200_000 + ".weight.",
    ]
    header = {name: tensor(4 * i, 4 * i + 4) for i, name in enumerate(names)}
    refused(lora.read, headed(tmp_path / "x.safetensors", header))


# Embeddings.


@pytest.mark.parametrize(
    "content",
    [
        {"string_to_param": 3},
        {"string_to_param": {}},
        {"string_to_param": {"*": "text"}},
        {"string_to_param": {"*": {"*": 1}}},
        {"clip_l": "text"},
        {"emb": None},
        [1, 2],
        3,
        {},
        OrderedDict(a=1),
    ],
    ids=str,
)
def test_embeddings_of_other_types(content: Any, tmp_path: Path) -> None:
    refused(inversion.read, zipped(tmp_path / "x.pt", pickle.dumps(content, 2)))


def test_embeddings_have_bounds(tmp_path: Path) -> None:
    def file(key: str, *shape: int) -> Path:
        size = 4 * int(np.prod(shape))
        header = {key: tensor(0, size, list(shape))}
        return headed(tmp_path / "e.safetensors", header, np.ones(shape, "f4").tobytes())

    assert "100 vectors" in refused(inversion.read, file("emb_params", 100, 8))
    refused(inversion.read, file("emb_params", 0, 8))
    refused(inversion.read, file("emb_params", 2, 2, 2))
    refused(inversion.read, file("emb_params", 1, 1, 1))
    assert "cannot be a word" in refused(inversion.read, file("w" * 1000, 1, 8))
    assert inversion.read(file("emb_params", 8)).vectors["text_encoder"].shape == (1, 8)


def test_python_2_texts_and_protocols(tmp_path: Path) -> None:
    """Older and newer pickles of the same dictionary."""
    for protocol in range(5):
        written = io.BytesIO()
        pickle.dump({"state_dict": {"a": 1.5, "b": True, "c": None}}, written, protocol)
        found = pickles.read(zipped(tmp_path / "p.pt", written.getvalue()))
        assert found == {"state_dict": {"a": 1.5, "b": True, "c": None}}
