"""A model folder as it lies on disk, and what is wrong with one."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import model_folder, written
from pleinair.runtime.errors import BundleError
from pleinair.runtime.model.bundle import Bundle, check_files
from pleinair.runtime.model.manifest import describe


def test_a_folder_is_read(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree", parts=("vae_encoder", "extra"))
    bundle = Bundle.open(folder)
    assert bundle.name == "tree"
    parts = {"text_encoder", "unet", "vae_decoder", "vae_encoder", "extra"}
    assert set(bundle.graphs["openvino"]) == parts
    assert bundle.graph("unet", "openvino") == folder / "unet" / "openvino_model.xml"
    assert bundle.config("unet")["in_channels"] == 4
    assert bundle.config("nothing") == {}
    assert bundle.tokenizer() == folder / "tokenizer"
    assert bundle.tokenizer("tokenizer_2") == folder / "tokenizer_2"
    assert bundle.read("nothing.json") == {}
    assert bundle.has("extra")
    assert not bundle.has("safety_checker")
    assert bundle.digest == ""


def test_both_formats(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    (folder / "unet" / "model.onnx").write_bytes(b"")
    bundle = Bundle.open(folder)
    assert set(bundle.graphs) == {"openvino", "onnx"}
    assert bundle.requiring(("unet",)).graphs == bundle.graphs
    with pytest.raises(BundleError, match=r"the vae_decoder graph \(\.onnx\) is missing"):
        bundle.requiring(("unet", "vae_decoder"))
    # A format that holds none of a model's parts, as 8-bit graphs alone, is left aside.
    assert set(bundle.requiring(("vae_decoder",)).graphs) == {"openvino"}
    with pytest.raises(BundleError, match="holds no vae_decoder as onnx"):
        bundle.graph("vae_decoder", "onnx")


def test_a_tokenizer_of_another_folder(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    bundle = Bundle.open(folder, tmp_path / "other")
    assert bundle.tokenizer() == tmp_path / "other"


def test_what_is_no_folder_or_no_model(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such model folder"):
        Bundle.open(tmp_path / "nothing")
    with pytest.raises(BundleError, match=r"model_index\.json"):
        Bundle.open(tmp_path)
    written(tmp_path / "model_index.json", {})
    with pytest.raises(BundleError, match=r"a checkpoint, not a converted model.*pleinair-export"):
        Bundle.open(tmp_path)


def test_truncated_and_missing_files(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    graph = folder / "unet" / "openvino_model.xml"
    graph.write_text('<net><data element_type="f32" offset="4" size="8"/></net>')
    graph.with_suffix(".bin").write_bytes(b"1" * 11)
    with pytest.raises(BundleError, match=r"openvino_model\.bin: truncated: 11 of 12 bytes"):
        Bundle.open(folder)
    graph.with_suffix(".bin").write_bytes(b"1" * 12)
    Bundle.open(folder)
    graph.write_text("<net><data")
    with pytest.raises(BundleError, match=r"openvino_model\.xml: truncated"):
        Bundle.open(folder)
    graph.with_suffix(".bin").unlink()
    with pytest.raises(BundleError, match=r"openvino_model\.bin: missing beside"):
        Bundle.open(folder)


def test_a_manifest_is_held_against_the_files(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    name = "unet/openvino_model.bin"
    (folder / name).write_bytes(b"tree")
    facts = {"bytes": 4, "sha256": hashlib.sha256(b"tree").hexdigest()}
    written(folder / "pleinair.json", {"files": {name: facts}})
    bundle = Bundle.open(folder)
    bundle.verify()
    assert len(bundle.digest) >= 8
    (folder / name).write_bytes(b"twig")  # so small a file is read whole
    for check in (bundle.verify, lambda: Bundle.open(folder)):
        with pytest.raises(BundleError, match="its content is not what was exported"):
            check()
    (folder / name).write_bytes(b"leaf!")
    with pytest.raises(BundleError, match=r"5 bytes where pleinair\.json says 4"):
        Bundle.open(folder)
    shutil.rmtree(folder / "unet")
    with pytest.raises(BundleError, match=r"missing, though pleinair\.json lists it"):
        check_files(folder, bundle.manifest, {})


def listing(folder: Path, *names: str) -> None:
    """A manifest of these files as they are."""
    files = {name: describe(folder / name) for name in names}
    written(folder / "pleinair.json", {"files": files})


def test_settings_may_be_edited_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = model_folder(tmp_path / "tree")
    names = "scheduler/scheduler_config.json", "model_index.json", "unet/config.json"
    listing(folder, *names)
    for name in names:
        edited = {**json.loads((folder / name).read_text(encoding="utf-8")), "more": 1}
        written(folder / name, edited)
    with caplog.at_level("INFO", "pleinair"):
        assert sorted(Bundle.open(folder).verify()) == sorted(names)
    [line] = [record.getMessage() for record in caplog.records]
    assert "edited since it was converted" in line
    assert all(name in line for name in names)


def test_of_large_files_size_and_head_are_compared(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    name = "unet/openvino_model.bin"
    content = bytearray(5 << 20)
    (folder / name).write_bytes(content)
    listing(folder, name)
    content[-1] = 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=r"openvino_model\.bin: its content is not"):
        Bundle.open(folder).verify()
    content[0] = 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=r"openvino_model\.bin: its content is not"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../secret": {"bytes": 1, "sha256": "0" * 64}}, r"lists \.\./secret, outside its folder"),
        ({"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}, "lists /etc/passwd, outside"),
        ({"a": {"bytes": "1", "sha256": "0" * 64}}, r"Expected int, got str at files\[\.\.\.\]"),
        ({"a": {"bytes": 1, "sha256": "x"}}, "Expected str matching regex"),
        ({"a": 1}, "Expected object, got int"),
        ([], "Expected object, got array at files"),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, files: object, message: str) -> None:
    folder = model_folder(tmp_path / "tree", manifest={"files": files})
    with pytest.raises(BundleError, match=rf"pleinair\.json: {message}"):
        Bundle.open(folder)


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        lambda path: path.symlink_to(path),
        os.mkfifo,
        lambda p: p.symlink_to("/dev/zero"),
    ],
    ids=["folder", "loop", "pipe", "zeros"],
)
@pytest.mark.parametrize(
    "name", ["unet/config.json", "unet/openvino_model.bin", "vae_encoder/openvino_model.xml"]
)
def test_what_is_no_file_is_not_taken_for_absent(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    folder = model_folder(tmp_path / "tree")
    (folder / name).unlink()
    make(folder / name)
    with pytest.raises(BundleError, match=f"{re.escape(name)}: not a regular file"):
        Bundle.open(folder)


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_part_that_is_a_link_to_nowhere(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    (folder / "safety_checker").symlink_to("gone", target_is_directory=True)
    with pytest.raises(BundleError, match="safety_checker: a link that leads nowhere"):
        Bundle.open(folder)


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_links_out_of_the_folder_are_followed(tmp_path: Path) -> None:
    """The hub's cache consists of them."""
    folder, blob = model_folder(tmp_path / "tree"), tmp_path / "blob"
    (folder / "unet" / "openvino_model.bin").rename(blob)
    (folder / "unet" / "openvino_model.bin").symlink_to(blob)
    assert Bundle.open(folder).has("unet")


def test_a_graph_of_any_size_is_not_read(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    with (folder / "unet" / "openvino_model.xml").open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(BundleError, match="1,099,511,627,776 bytes are too many for a graph"):
        Bundle.open(folder)
