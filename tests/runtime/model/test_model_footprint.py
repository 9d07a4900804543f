"""What graphs are estimated to take of memory, by hand."""

from pathlib import Path

import pytest

from fakes import POCKET
from pleinair.runtime.errors import SettingError
from pleinair.runtime.model.footprint import (
    Working,
    bytes_of,
    footprint,
    largest_attention,
    level_width,
    weights,
)

MB = 1 << 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("800mb", 8 * 10**8),
        (" 10 kb ", 10**4),
        ("4096", 4096),
        (123, 123),
        (None, None),
    ],
)
def test_sizes_as_people_write_them(text: str | int | None, expected: int | None) -> None:
    assert bytes_of(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "2TB", "1e9", "1.5.2GB", True])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(SettingError, match=r"max_memory is .*; give a size such as 2GB"):
        bytes_of(text)


def ir(folder: Path, *constants: tuple[str, int]) -> Path:
    file = folder / "openvino_model.xml"
    data = [f'<data element_type="{kind}" offset="0" size="{size}"/>' for kind, size in constants]
    file.write_text(f"<net>{''.join(data)}</net>", encoding="utf-8")
    return file


def test_half_precision_is_widened(tmp_path: Path) -> None:
    assert weights(ir(tmp_path, ("f16", 100), ("bf16", 10), ("f32", 1000), ("i8", 7))) == 1227


def test_a_graph_takes_its_weights_or_what_it_computes_with(tmp_path: Path) -> None:
    file = ir(tmp_path, ("f32", 100 * MB))
    nothing = Working("denoiser", values=0)
    assert footprint(file, "openvino", nothing) == 64 * MB + 110 * MB
    assert footprint(file, "onnxruntime", nothing) == 64 * MB + 180 * MB  # while it is compiled
    maps = Working("denoiser", values=10 * MB)
    assert footprint(file, "openvino", maps) == (64 + 110 + 4 * 30 * 10) * MB
    assert footprint(file, "openvino", Working()) == (64 + 110 + 16) * MB


def test_a_part_of_the_weights_or_changed_ones(tmp_path: Path) -> None:
    file, nothing = ir(tmp_path, ("f32", 100 * MB)), Working("vae")
    assert footprint(file, "openvino", nothing, share=0.5) == (64 + 55) * MB
    assert footprint(file, "openvino", nothing, changed=0.5) == (64 + 165) * MB


def test_what_is_held_while_computing() -> None:
    scores = Working("denoiser", values=100, scores=7)
    assert scores.bytes("openvino") == 4 * 30 * 100
    assert scores.bytes("onnxruntime") == 4 * (30 * 100 + 16 * 7)
    assert Working("vae", values=100).bytes("onnxruntime") == 4 * 4 * 100
    assert Working().bytes("openvino") == 16 * MB


def test_attention_is_largest_where_it_comes_first() -> None:
    first = ["CrossAttnDownBlock2D", "DownBlock2D"]
    second = ["DownBlock2D", "CrossAttnDownBlock2D"]
    assert largest_attention(first, (2, 4, 8, 16)) == 2 * 128**2
    assert largest_attention(second, (2, 4, 8, 16)) == 2 * 32**2
    assert largest_attention([], (1, 4, 8, 8)) == 64**2


def test_a_level_s_width() -> None:
    assert [level_width([32, 64], level, 320) for level in range(3)] == [32, 64, 64]
    assert level_width(None, 1, 320) == 320


def test_the_same_weights_in_either_format() -> None:
    """The bundled model's, to some constants that are none of its parameters."""
    for part in ("unet", "vae_decoder"):
        onnx = weights(POCKET / part / "model.onnx")
        assert weights(POCKET / part / "openvino_model.xml") == pytest.approx(onnx, rel=0.01)


def test_in_16_bits_floats_are_narrow_and_8_bits_stay(tmp_path: Path) -> None:
    file = ir(tmp_path, ("f16", 100 * MB), ("f32", 200 * MB), ("i8", 50 * MB))
    assert weights(file, "f32") == 450 * MB
    assert weights(file, "bf16") == 250 * MB
    nothing = Working("denoiser")
    assert footprint(file, "openvino", nothing, precision="bf16") == (64 + 275) * MB
    onnx = POCKET / "unet" / "model.onnx"
    assert weights(onnx, "bf16") == weights(onnx)
