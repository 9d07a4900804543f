"""A model folder as it lies on disk, and what is wrong with one."""

import hashlib
import shutil
from pathlib import Path

import pytest

from fakes import model_folder, written
from pleinair.runtime.errors import BundleError
from pleinair.runtime.model.bundle import Bundle, check_files


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
