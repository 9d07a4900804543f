"""8-bit graphs: really in 8 bits, near what they were made of, published whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import openvino
import pytest

from pleinair.export import measure_sensitivity, onnx_file, quantize, quantize_model
from pleinair.export.int8 import distance, layers, onnx_graph, openvino_graph, trajectories
from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.errors import ExportError, to_install
from pleinair.runtime.families.stable_diffusion import StableDiffusion
from pleinair.runtime.graphs import onnx_graph as onnx_graph_file
from pleinair.runtime.graphs import onnx_weights
from pleinair.runtime.graphs.weights import ChangedWeights, shapes, shapes_in_8_bits
from pleinair.runtime.images.pixels import as_picture
from pleinair.runtime.model.bundle import Bundle

pytest.importorskip("nncf")
pytestmark = pytest.mark.usefixtures("compiled_once")

KEPT = {
    "unet": [*layers.ENDS, "up_blocks.2 shortcuts"],
    "vae_decoder": list(layers.ENDS),
}
BACKENDS = {"openvino": openvino_graph, "onnx": onnx_graph}
POCKET = Path(__file__).parents[2] / "models" / "pocket"
QUICK: dict[str, Any] = {"samples": 6, "steps": 3, "attention_levels": 1}


@pytest.fixture(scope="module", params=["openvino", "onnx"])
def quantized(request: Any, made: Any) -> tuple[Path, str]:
    """A tiny folder with its int8 graphs, and their format. Read-only: tests share it."""
    exported = request.getfixturevalue(f"exported_{request.param}")

    def make(folder: Path) -> None:
        shutil.copytree(exported, folder)
        stages: list[tuple[str, float]] = []
        tell = lambda stage, share: stages.append((stage, share))  # noqa: E731
        assert quantize_model(folder, **QUICK, on_progress=tell) == folder
        shares = [share for _, share in stages]
        assert shares == sorted(shares)
        assert shares[0] == 0
        assert shares[-1] == 1

    return made(f"int8/tiny-{request.param}", make), request.param


@pytest.fixture
def linked(exported_openvino: Path, tmp_path: Path) -> Path:
    """A folder to add to, of links to the shared one's files: their graphs are compiled once."""
    folder = tmp_path / "tiny"
    shutil.copytree(exported_openvino, folder, copy_function=os.symlink)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, hidden files too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rounded(graph: Path) -> tuple[set[str], int]:
    """Of a graph, the convolutions and products with a rounded operand, and how many there are."""
    if graph.suffix == ".onnx":
        import onnx

        nodes = onnx.load(graph).graph.node
        kinds = {name: node.op_type for node in nodes for name in node.output}
        weighted = [node for node in nodes if node.op_type in ("Conv", "MatMul", "Gemm")]
        marked = {
            node.name
            for node in weighted
            if any(kinds.get(name) == "DequantizeLinear" for name in node.input)
        }
        return marked, len(weighted)
    import openvino

    ops = openvino.Core().read_model(graph).get_ops()
    kinds = ("Convolution", "MatMul", "ScaledDotProductAttention")
    weighted = [op for op in ops if op.get_type_name() in kinds]
    marked = {
        op.friendly_name
        for op in weighted
        if op.input(0).get_source_output().get_node().get_type_name() == "FakeQuantize"
    }
    return marked, len(weighted)


@pytest.mark.parametrize("part", ["unet", "vae_decoder"])
def test_layers_are_rounded_but_for_the_ends(quantized: tuple[Path, str], part: str) -> None:
    folder, form = quantized
    graph = folder / f"{part}_int8" / BACKENDS[form].FILE
    marked, count = rounded(graph)
    groups = {name: layers.group_of(name) for name in marked}
    assert len(marked) > 0.6 * count
    assert not {name for name, group in groups.items() if group in KEPT[part]}
    if part == "unet":
        kinds = {group.partition(" ")[2] for group in groups.values() if group}
        wanted = {"self-attention", "cross-attention", "feed-forward", "resnets", "attention"}
        assert wanted <= kinds


def test_the_ends_of_the_graphs_are_the_same(quantized: tuple[Path, str]) -> None:
    import openvino

    folder, form = quantized
    for part in ("unet", "vae_decoder"):
        ends = []
        for name in (part, f"{part}_int8"):
            model = openvino.Core().read_model(folder / name / BACKENDS[form].FILE)
            ports = [*model.inputs, *model.outputs]
            ends.append([(port.any_name, str(port.partial_shape)) for port in ports])
        assert ends[0] == ends[1]
        assert (folder / f"{part}_int8" / "config.json").is_file()


def test_the_output_is_near(quantized: tuple[Path, str]) -> None:
    """On a picture of the test's own, asked again through the engine that paints with it."""
    folder, form = quantized
    family, backend = families.open_model(folder), BACKENDS[form]
    found = trajectories.record(family, ["a green tree"], 0, steps=3, side=None, tell=lambda: None)
    for part, least in (("unet", 15), ("vae_decoder", 20)):
        graphs = [folder / name / backend.FILE for name in (part, f"{part}_int8")]
        samples = found.held_out[part]
        right, int8 = (
            distance.outputs(backend.engine(graph), graph, samples, lambda: None)
            for graph in graphs
        )
        assert least < distance.Distance.between(right, int8).snr_db < 60


def test_the_picture_is_near(quantized: tuple[Path, str], tmp_path: Path) -> None:
    folder, form = quantized
    swapped = tmp_path / "swapped"
    shutil.copytree(folder, swapped)
    (swapped / "pleinair.json").unlink()
    for part in ("unet", "vae_decoder"):
        shutil.rmtree(swapped / part)
        (swapped / f"{part}_int8").rename(swapped / part)
    engine = "onnxruntime" if form == "onnx" else form
    pictures = []
    for path in (folder, swapped):
        pipe = StableDiffusionPipeline.from_pretrained(path, engine=engine, profile="exact")
        arguments = {"seed": 3, "num_inference_steps": 4, "width": 64, "height": 96}
        output = pipe("a red apple", output_type="np", **arguments)
        pictures.append(np.asarray(as_picture(output.images[0]), np.float32))
    difference = np.abs(pictures[0] - pictures[1])
    assert 0 < difference.mean() < 12


def test_the_manifest_says_what_was_done(quantized: tuple[Path, str]) -> None:
    folder, form = quantized
    bundle = Bundle.open(folder)
    bundle.verify()
    listed = set(bundle.manifest["files"])
    for part in ("unet", "vae_decoder"):
        assert f"{part}_int8/{BACKENDS[form].FILE}" in listed
        facts = bundle.manifest["int8"][part][form]
        assert facts["kept_in_floating_point"] == KEPT[part]
        assert facts["created_by"]["nncf"]
        assert 15 < facts["distance"]["int8"]["snr_db"] < 60
        assert 0 < facts["distance"]["int8"]["relative_error"] < 0.2
    unet = bundle.manifest["int8"]["unet"][form]
    assert unet["attention_stride"] == 2
    assert unet["strided_attentions"] == 3
    assert unet["samples"] == 6
    assert unet["held_out_samples"] >= 3
    # What the export said of itself is still there.
    assert bundle.manifest["parity"]["unet"][form]


def test_calibration_is_the_same_every_time(exported_openvino: Path) -> None:
    family = families.open_model(exported_openvino)
    runs = [
        trajectories.record(family, ["a cat", "a dog"], 8, steps=3, side=32, tell=lambda: None)
        for _ in range(2)
    ]
    for first, second in zip(runs[0].seen["unet"], runs[1].seen["unet"], strict=True):
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name], second[name]) for name in first)
    unet = runs[0].seen["unet"]
    assert len(unet) == 8
    assert all(len(sample["sample"]) == 1 for sample in unet)
    # Over all timesteps, with and without the prompt; of the picture held out, nothing.
    assert len({float(sample["timestep"]) for sample in unet}) >= 3
    words = {sample["encoder_hidden_states"].tobytes() for sample in unet}
    assert len(words) == 3  # two prompts and the empty one
    held = {sample["sample"].tobytes() for sample in runs[0].held_out["unet"]}
    assert not held & {sample["sample"].tobytes() for sample in unet}
    assert len(runs[0].seen["vae_decoder"]) == 3
    assert len(runs[0].held_out["vae_decoder"]) == 1


def test_weights_alone(exported_openvino: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(exported_openvino, folder)
    quantize_model(
        folder, weights_only=True, attention_stride=1, steps=2, size=32, keep=["mid_block resnets"]
    )
    import openvino

    graph = folder / "unet_int8" / openvino_graph.FILE
    model = openvino.Core().read_model(graph)
    kinds = [op.get_type_name() for op in model.get_ops()]
    assert "FakeQuantize" not in kinds
    whole = exported_openvino / "unet" / "openvino_model.bin"
    assert graph.with_suffix(".bin").stat().st_size < 0.5 * whole.stat().st_size
    stored = {
        op.friendly_name: op.get_element_type().get_type_name()
        for op in model.get_ops()
        if op.get_type_name() == "Constant"
    }
    bytes_of = lambda layer: {t for name, t in stored.items() if f"{layer}.weight" in name}  # noqa: E731
    assert "u8" in bytes_of("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
    assert "u8" not in bytes_of("conv_in")
    assert "u8" not in bytes_of("mid_block.resnets.0.conv1")
    facts = json.loads((folder / "pleinair.json").read_text())["int8"]["unet"]["openvino"]
    assert facts["weights_only"] is True
    assert facts["distance"]["int8"]["snr_db"] > 30
    assert facts["attention_stride"] == 1
    assert "attention_stride" not in facts["distance"]


def test_a_format_is_added_to_the_other(exported_guarded: Path, tmp_path: Path) -> None:
    """Each by a command of its own; what was there stays, and stays described."""
    folder = tmp_path / "both"
    shutil.copytree(exported_guarded, folder)
    how = {"weights_only": True, "steps": 1, "size": 32, "parts": ["vae_decoder"]}
    quantize_model(folder, formats=["openvino"], **how)
    first = contents(folder / "vae_decoder_int8")
    quantize_model(folder, formats="onnx", **how)
    second = contents(folder / "vae_decoder_int8")
    assert second.keys() == {*first, "model.onnx"}
    assert {name: second[name] for name in first} == first
    bundle = Bundle.open(folder)
    bundle.verify()
    facts = bundle.manifest["int8"]["vae_decoder"]
    assert facts.keys() == {"openvino", "onnx"}
    for one in facts.values():
        assert one["distance"]["int8"]["snr_db"] > 30
    assert set(bundle.manifest["files"]) >= {f"vae_decoder_int8/{name}" for name in second}
    whole = exported_guarded / "vae_decoder" / "model.onnx"
    assert len(second["model.onnx"]) < 0.6 * whole.stat().st_size


def test_float16_weights_of_onnx_are_seen(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Stored as float16 with a Cast, weights are none to NNCF: they are widened first."""
    from diffusers import AutoencoderKL

    from pleinair.export import onnx_model
    from pleinair.export.graphs.vae import vae_decoder

    vae = AutoencoderKL.from_pretrained(tiny_checkpoint / "vae").eval()
    onnx_model.write(vae_decoder(vae), tmp_path / "half", half=True)
    (tmp_path / "wide").mkdir()
    half = tmp_path / "half" / onnx_file.FILE
    stored = onnx.load(half, load_external_data=False).graph.initializer
    assert [w for w in stored if w.data_type == onnx.TensorProto.FLOAT16]
    wide, strided = onnx_graph.prepare(half, tmp_path / "wide", lambda model: [], 2)
    assert strided == 0
    nodes = onnx.load(wide, load_external_data=False).graph
    assert not [w for w in nodes.initializer if w.data_type == onnx.TensorProto.FLOAT16]
    latents = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)
    engine = onnx_graph.engine(half)
    right, found = (
        engine.compile(file, {})({"latent_sample": latents})["sample"] for file in (half, wide)
    )
    assert np.abs(right - found).max() < 1e-5


@pytest.mark.slow
def test_sensitivity_names_every_group(
    exported_openvino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(exported_openvino, folder)
    before = contents(folder)
    command = [str(folder), "--sensitivity", "--part", "vae_decoder", "--steps", "1"]
    assert quantize.main([*command, "--size", "32", "--quiet"]) == 0
    after = contents(folder)
    found = json.loads(after.pop("int8-sensitivity.json"))["parts"]["vae_decoder"]
    assert after == before
    assert {"conv_in", "conv_out", "mid_block resnets", "mid_block attention"} < found.keys()
    assert {f"up_blocks.{i} resnets" for i in range(4)} < found.keys()
    for group in ("conv_in", "conv_out", "up_blocks.3 resnets"):
        assert 5 < found[group]["snr_db"] < 80
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + len(found)
    worst = min(found, key=lambda group: found[group]["snr_db"] or np.inf)
    assert worst in table[1]
    with pytest.raises(ExportError, match="exists"):
        measure_sensitivity(folder)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake gets."""
    capsys.readouterr()
    assert quantize.main([*arguments, "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("pleinair-quantize: ")
    return line


def test_mistakes_are_one_line(
    quantized: tuple[Path, str],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, form = quantized
    before = contents(folder)
    other = {"openvino": "onnx", "onnx": "openvino"}[form]
    (tmp_path / "empty.txt").write_text("\n\n")
    for arguments, message in (
        ([str(tmp_path / "nowhere")], "no such model folder"),
        ([str(tiny_checkpoint)], "a checkpoint, not a converted model"),
        ([str(folder)], f"{BACKENDS[form].FILE} exists; to replace it add --overwrite"),
        ([str(folder), "--format", other], f"holds no unet as {other}"),
        ([str(folder), "--part", "transformer"], "parts are unet and vae_decoder, not transformer"),
        ([str(folder), "--overwrite", "--samples", "0"], "samples is 0"),
        ([str(folder), "--overwrite", "--attention-stride", "0"], "attention_stride is 0"),
        ([str(folder), "--overwrite", "--size", "100"], "100"),
        ([str(folder), "--overwrite", "--keep", "the sky"], "there are no layers 'the sky'"),
        ([str(folder), "--prompts", str(tmp_path / "empty.txt")], "holds no prompts"),
        ([str(folder), "--prompts", str(tmp_path / "none.txt")], "not a readable text file"),
    ):
        assert message in refused(arguments, capsys)
    with pytest.raises(ExportError, match="formats are openvino and onnx, not tflite"):
        quantize_model(folder, formats=["tflite"], overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
        message = refused([str(folder), "--overwrite"], capsys)
        assert "lie beside it, and its disk has 0.0 GB free; free some space" in message
    monkeypatch.setitem(sys.modules, "nncf", None)
    message = refused([str(folder), "--overwrite"], capsys)
    assert to_install("int8") in message
    assert contents(folder) == before


def test_a_model_that_needs_more_than_words_is_refused(
    exported_openvino: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "inpainting"
    shutil.copytree(exported_openvino, folder)
    monkeypatch.setattr(StableDiffusion, "task", "inpainting")
    assert "made for inpainting" in refused([str(folder)], capsys)


def test_weights_that_onnx_does_not_read_are_named(exported_onnx: Path, tmp_path: Path) -> None:
    """It follows no links, symbolic or hard, as a folder made by `cp -l` is full of."""
    folder = tmp_path / "tiny"
    shutil.copytree(exported_onnx, folder)
    (folder / "pleinair.json").unlink()
    graph = folder / "unet" / onnx_graph.FILE
    model = onnx.load(graph)
    graph.unlink()
    onnx_file.save(model, graph.parent, external=True)
    os.link(graph.with_name(onnx_file.DATA), tmp_path / "linked")
    before = contents(folder)
    with pytest.raises(ExportError, match="onnx does not read it") as caught:
        quantize_model(folder, parts=["unet"], samples=1, steps=1)
    assert str(graph) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before


STOPS: dict[str, Callable[[str], bool]] = {
    "while painting": lambda stage: stage.startswith("painting"),
    "when all is done": lambda stage: stage == "writing the manifest",
}


@pytest.mark.parametrize("when", list(STOPS))
def test_stopped_it_leaves_everything_as_it_was(linked: Path, when: str) -> None:
    folder, before = linked, contents(linked)
    reached = []

    def stop(stage: str, share: float) -> None:
        if STOPS[when](stage):
            reached.append(stage)
            raise KeyboardInterrupt

    how = {"weights_only": True, "steps": 1, "size": 32, "parts": ["vae_decoder"]}
    with pytest.raises(KeyboardInterrupt):
        quantize_model(folder, **how, on_progress=stop)
    assert reached
    assert contents(folder) == before
    assert not list(folder.glob(".int8*"))


def test_a_graph_that_is_far_off_is_not_published(
    linked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = linked, contents(linked)
    monkeypatch.setattr(distance, "LEAST_SNR", 90.0)
    how = {"weights_only": True, "steps": 1, "size": 32, "parts": ["vae_decoder"]}
    with pytest.raises(ExportError, match=r"is off by .* nothing was written") as caught:
        quantize_model(folder, **how)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before


def test_what_is_no_number_is_far_off() -> None:
    right = [np.ones((1, 4), np.float32)]
    broken = distance.Distance.between(right, [np.full((1, 4), np.nan, np.float32)])
    assert not broken.sound
    assert broken.as_json() == {"snr_db": None, "relative_error": None}
    assert distance.Distance.between(right, right).sound
    tenth = distance.Distance.between(right, [1.1 * right[0]])
    assert tenth.snr_db == pytest.approx(20, abs=0.01)
    assert tenth.relative_error == pytest.approx(0.1, abs=1e-3)


def test_the_manifest_stands_as_it_was_when_renaming_fails(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing fails at the very end: what was there comes back, and is listed."""
    from pleinair.export.int8 import publishing

    folder = tmp_path / "tiny"
    shutil.copytree(exported_openvino, folder)
    how = {"weights_only": True, "steps": 1, "size": 32, "parts": ["vae_decoder"]}
    quantize_model(folder, **how)
    before = contents(folder)
    whole, calls = publishing.write_whole, []

    def fail_once(path: Path, text: str) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(5, "the disk fell over")
        whole(path, text)

    monkeypatch.setattr(publishing, "write_whole", fail_once)
    with pytest.raises(OSError, match="fell over"):
        quantize_model(folder, **how, overwrite=True)
    assert contents(folder) == before
    Bundle.open(folder).verify()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c(exported_openvino: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(exported_openvino, folder)
    before = contents(folder)
    command = [sys.executable, "-m", "pleinair.export.quantize", str(folder), "--quiet"]
    running = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, and these tests may be in one, ignore Ctrl-C by inheritance.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 240
    while not list(folder.glob(".int8.partial-*")):
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=240)
    assert running.returncode == 130
    assert "stopped; nothing was written" in errors
    assert "Traceback" not in errors
    assert contents(folder) == before


@pytest.mark.slow
def test_pocket_without_torch(tmp_path: Path) -> None:
    """The bundled model, by the command, in a process that has no torch; its own words."""
    folder = tmp_path / "pocket"
    ignored = shutil.ignore_patterns("training", "*.png")
    shutil.copytree(POCKET, folder, ignore=ignored)
    (folder / "pleinair.json").unlink()  # it lists what is not copied; and a folder may have none
    (tmp_path / "prompts.txt").write_text("a red apple\na cat on a blue background\n")
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['diffusers'] = sys.modules['transformers'] = None\n"
        "from pleinair.export.quantize import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    options = ["--samples", "12", "--steps", "6", "--prompts", str(tmp_path / "prompts.txt")]
    options += ["--format", "openvino"]
    command = [sys.executable, "-c", code, str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"{folder}\n"
    assert "100%" in done.stderr
    assert "nncf" not in done.stderr.lower()  # its own remarks and bars are not shown
    bundle = Bundle.open(folder)
    bundle.verify()
    facts = bundle.manifest["int8"]
    assert facts["unet"]["openvino"]["strided_attentions"] == 0  # 64 tokens: nothing to gain
    assert facts["unet"]["openvino"]["distance"]["int8"]["snr_db"] > 12
    assert facts["vae_decoder"]["openvino"]["distance"]["int8"]["snr_db"] > 15


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from pleinair.export import quantize\n"
        "try:\n    quantize.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'nncf', 'openvino', 'onnx', 'rich', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for option in ("folder", "--attention-stride", "--weights-only", "--sensitivity", "--keep"):
        assert option in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def numbers(form: str, graph: Any) -> dict[str, np.ndarray]:
    """The weights of 8 bits of an opened graph, and steps and biases beside them, by name."""
    if form == "onnx":
        stored = {tensor.name: tensor for tensor in onnx_weights.tensors(graph)}
        kept = {name: one for name, one in stored.items() if name not in graph.weights}
        types = onnx_graph_file.ELEMENT_TYPES
        whole = {
            name: one.values(graph.path)
            for name, one in kept.items()
            if one.type in types and not name.startswith("zero_point_")  # all zero, and not raw
        }
        return {**whole, **graph.weights}
    constants = [op for op in graph.get_ops() if op.get_type_name() == "Constant"]
    return {op.friendly_name: np.array(op.data) for op in constants if op.data.size > 1}


def read(form: str, path: Path) -> Any:
    if form == "onnx":
        return onnx_graph_file.OnnxGraph.open(path)
    return openvino.Core().read_model(path)


def test_weights_that_nothing_changes_are_rounded_as_nncf_did(quantized: tuple[Path, str]) -> None:
    folder, form = quantized
    file = BACKENDS[form].FILE
    exact, eight = folder / "unet" / file, folder / "unet_int8" / file
    assert shapes_in_8_bits(eight).keys() == shapes(exact).keys()
    edit = ChangedWeights({name: lambda weight: weight for name in shapes(exact)}, exact)
    before, opened = numbers(form, read(form, eight)), read(form, eight)
    after = numbers(form, edit.onnx(opened) if form == "onnx" else edit.openvino(opened))
    assert after.keys() == before.keys()
    whole = [name for name, old in before.items() if old.dtype == np.int8 and old.ndim > 1]
    assert len(whole) > 20
    for name, old in before.items():
        new = after[name]
        assert (new.dtype, new.shape) == (old.dtype, old.shape)
        if name in whole:  # what SmoothQuant multiplies, NNCF rounds to float32 once more
            difference = np.abs(new.astype(int) - old)
            assert difference.max() <= 1
            assert (difference > 0).mean() < 0.05
        elif old.dtype.kind == "f":
            np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-6)


def test_weights_of_8_bits_follow_what_files_change(quantized: tuple[Path, str]) -> None:
    """Weights and biases of convolutions and linear layers, also in halves, also smoothed."""
    folder, form = quantized
    file = BACKENDS[form].FILE
    exact, eight = folder / "unet" / file, folder / "unet_int8" / file

    def moved(weight: np.ndarray, seed: int) -> np.ndarray:
        rows, random = weight.reshape(len(weight), -1), np.random.default_rng(seed)
        difference = np.outer(*(random.normal(size=size) for size in rows.shape))
        return np.float32(weight + 0.3 * rows.std() * difference.reshape(weight.shape))

    named = {name: shape for name, shape in shapes(exact).items() if len(shape) > 1}
    changes: dict[str, Any] = {name: partial(moved, seed=seed) for seed, name in enumerate(named)}
    for name in named:
        if ".to_q." in name or ".proj." in name or ".conv1." in name:
            changes[name.removesuffix("weight") + "bias"] = lambda bias: bias + np.float32(0.1)
    engine = BACKENDS[form].engine(exact)
    random = np.random.default_rng(0)
    width = json.loads((folder / "unet" / "config.json").read_text())["cross_attention_dim"]
    feeds = {
        "sample": random.normal(size=(1, 4, 8, 8)).astype(np.float32),
        "timestep": np.array(500),
        "encoder_hidden_states": random.normal(size=(1, 77, width)).astype(np.float32),
    }
    sizes = {name: value.shape for name, value in feeds.items() if value.ndim}

    def output(path: Path, *edits: ChangedWeights) -> np.ndarray:
        (found,) = engine.compile(path, sizes, edits)(feeds).values()
        return found

    right, unchanged = output(exact, ChangedWeights(changes)), output(eight)
    eight_bit = output(eight, ChangedWeights(changes, exact))
    snr = distance.Distance.between([right], [eight_bit]).snr_db
    assert snr > 15
    assert distance.Distance.between([right], [unchanged]).snr_db < snr - 8
    assert distance.Distance.between([output(exact)], [unchanged]).snr_db < snr + 12
