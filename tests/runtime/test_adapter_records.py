"""LoRA files named in prompts, written into pictures, and found again."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import loras
from pleinair.runtime.cli import main
from pleinair.runtime.errors import PromptError
from pleinair.runtime.record import infotext
from pleinair.runtime.text.networks import loras_named

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.mark.parametrize(
    ("prompt", "rest", "named"),
    [
        ("a boat", "a boat", []),
        ("a boat <lora:ink:0.8>", "a boat", [("ink", 0.8)]),
        ("<lora:ink> a <lora:a b:-1.5>boat", "a boat", [("ink", 1.0), ("a b", -1.5)]),
        ("boat <lora:ink:0.5:0.5>", "boat", [("ink", 0.5)]),
        ("boat <lyco:ink:0.5>", "boat", [("ink", 0.5)]),
        ("a <b> (c:1.2) <hypernet:x:1>", "a <b> (c:1.2) <hypernet:x:1>", []),
    ],
)
def test_tags(prompt: str, rest: str, named: list[tuple[str, float]]) -> None:
    assert loras_named(prompt) == (rest, named)


@pytest.mark.parametrize("tag", ["<lora:ink:x>", "<lora::1>", "<lora:ink:nan>", "<lora:a:1:0.5>"])
def test_tags_that_cannot_be(tag: str) -> None:
    with pytest.raises(PromptError, match="<lora:"):
        loras_named(f"a boat {tag}")


def test_the_text_of_web_interfaces() -> None:
    written = infotext.write(
        {
            "prompt": "a boat",
            "num_inference_steps": 4,
            "seed": 1,
            "guidance_scale": 7.5,
            "loras": [{"name": "ink", "weight": 0.8, "sha256": "ab", "hash": "0123456789ab"}],
            "embeddings": [{"name": "good", "word": "good", "sha256": "c" * 64}],
        }
    )
    assert written.splitlines()[0] == "a boat <lora:ink:0.8>"
    assert 'Lora hashes: "ink: 0123456789ab"' in written
    assert 'TI hashes: "good: cccccccccccc"' in written
    said, unknown = infotext.read(written)
    assert said["prompt"] == "a boat"
    assert said["loras"] == [{"name": "ink", "weight": 0.8, "hash": "0123456789ab"}]
    assert said["embeddings"] == [{"name": "good", "word": "good", "hash": "c" * 12}]
    assert unknown == []


@pytest.fixture
def ink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LoRA file in models/loras, and an embedding beside it."""
    import checkpoints

    monkeypatch.chdir(tmp_path)
    path = loras.kohya(
        Path("models/loras/ink.safetensors"), loras.factors(checkpoints.tiny_unet(), 1)
    )
    vectors = np.random.default_rng(0).normal(0, 1, (2, 128)).astype(np.float32)
    loras.save(Path("models/embeddings/good.safetensors"), {"emb_params": vectors})
    return path


@pytest.fixture
def quick(exported_openvino: Path) -> list[str]:
    return ["--model", str(exported_openvino), "--steps", "2", "--seed", "7"]


def painted(name: str) -> np.ndarray:
    return np.asarray(Image.open(name))


def test_a_picture_knows_its_files_and_repeats_itself(
    quick: list[str], ink: Path, capsys: Any
) -> None:
    flags = ["--prompt", "a boat, good", "--embedding", "models/embeddings/good.safetensors"]
    assert main([*quick, *flags, "--lora", f"{ink}:0.8", "--output", "a.png"]) == 0
    said = json.loads(Image.open("a.png").text["pleinair"])
    (entry,) = said["loras"]
    assert (entry["name"], entry["weight"]) == ("ink", 0.8)
    assert entry["sha256"] == hashlib.sha256(ink.read_bytes()).hexdigest()
    assert said["embeddings"][0]["word"] == "good"
    assert said["prompt"] == "a boat, good"
    assert "a boat, good <lora:ink:0.8>\n" in Image.open("a.png").text["parameters"]
    # The tag is the same as the option, and both come back.
    tagged = ["--prompt", "a <lora:ink:0.8>boat, good", *flags[2:]]
    assert main([*quick, *tagged, "--output", "b.png"]) == 0
    assert np.array_equal(painted("a.png"), painted("b.png"))
    model = quick[:2]
    assert main([*model, "--params-from", "b.png", "--output", "c.png"]) == 0
    assert np.array_equal(painted("a.png"), painted("c.png"))
    # webui's text alone says enough.
    info = PngInfo()
    info.add_text("parameters", Image.open("a.png").text["parameters"])
    Image.new("RGB", (8, 8)).save("webui.png", pnginfo=info)
    exact = ["--profile", "exact"]  # which webui's text has no word for
    assert main([*model, *exact, "--params-from", "webui.png", "--output", "d.png"]) == 0
    assert np.array_equal(painted("a.png"), painted("d.png"))
    # Another file of that name, or gone: it would be another picture.
    capsys.readouterr()
    content = ink.read_bytes()
    ink.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for why in ("another file of that name", "not there"):
        assert main([*model, "--params-from", "a.png", "--output", "e.png"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"a.png: painted with <lora:ink:0.8> ({why}), looked for in models" in line
        ink.unlink(missing_ok=True)
    assert main([*quick, "--prompt", "a <lora:ink:0.8>", "--output", "f.png"]) == 2
    assert "no ink.safetensors in models" in capsys.readouterr().err


def test_a_stranger_s_entries_name_no_paths(quick: list[str], ink: Path, capsys: Any) -> None:
    entries = [{"name": "../loras/ink", "weight": 1.0}]
    info = PngInfo()
    info.add_text("pleinair", json.dumps({"prompt": "boat", "loras": entries}))
    Image.new("RGB", (8, 8)).save("evil.png", pnginfo=info)
    assert main([*quick, "--params-from", "evil.png", "--output", "a.png"]) == 0
    assert "not used: loras" in capsys.readouterr().err


def test_every_line_has_its_own_files_and_its_own_mistakes(
    quick: list[str], ink: Path, capsys: Any
) -> None:
    lines = [
        "boat",
        "boat <lora:ink:0.8>",
        "boat --W 65",
        "boat --clip-skip 9",
        "boat --n_samples 0",
        "boat --strength 0.5",
        "boat <lora:nowhere:1>",
        "boat --scheduler magic",
        "boat <lora:ink:-0.5>",
    ]
    Path("prompts.txt").write_text("\n".join(lines))
    job = [*quick, "--from-file", "prompts.txt", "--skip_grid", "--outdir", "out"]
    assert main(job) == 2
    output = capsys.readouterr()
    told = [line for line in output.err.splitlines() if "left out" in line]
    assert [line.split()[2] for line in told] == ["3", "4", "5", "6", "7", "8"]
    for line, says in zip(
        told,
        ("--W is 65", "--clip-skip", "--n_samples", "--strength", "nowhere", "magic"),
        strict=True,
    ):
        assert says in line
    plain, with_ink, against = map(painted, output.out.splitlines())
    assert not np.array_equal(plain, with_ink)
    assert not np.array_equal(with_ink, against)
    alone = [*quick, "--prompt", "boat", "--lora", f"{ink}:-0.5", "--output", "alone.png"]
    assert main(alone) == 0
    assert np.array_equal(painted("alone.png"), against)
    # The same job again paints nothing, and says again what is wrong.
    capsys.readouterr()
    assert main(job) == 2
    again = capsys.readouterr()
    assert again.out == output.out
    assert again.err.count("left out") == 6
    Path("bad.txt").write_text("boat --W 65\n")
    assert main([*quick, "--from-file", "bad.txt"]) == 2
    assert "bad.txt: no line can be painted; line 1: --W is 65" in capsys.readouterr().err
