"""Textual inversion on an exported model without torch, against diffusers."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loras
from pleinair.runtime.adapters import inversion, model, pickles
from pleinair.runtime.errors import AdapterError
from pleinair.runtime.text.chunks import chunks_of
from pleinair.runtime.text.tokenizer import ClipTokenizer

torch = pytest.importorskip("torch")

WIDTH = 128
PROMPT = "a photo of <Cat-Toy> and a house of sks, with <cat-toy> on the mountain"
MATRIX = "embeddings.token_embedding.weight"


def vectors(count: int, seed: int = 0, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def webui(path: Path, values: np.ndarray, name: str | None = "sks") -> Path:
    """As AUTOMATIC1111's webui saves what it trained."""
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(torch.from_numpy(values))},
        "name": name,
        "step": 500,
        "sd_checkpoint": None,
        "sd_checkpoint_name": "v1-5",
    }
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One word of three vectors, by its own key; one of one vector, in webui's pickle."""
    folder = tmp_path_factory.mktemp("embeddings")
    return {
        "<cat-toy>": loras.save(folder / "toy.safetensors", {"<cat-toy>": vectors(3, 1)}),
        "sks": webui(folder / "sks.pt", vectors(1, 2)),
    }


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_text_encoder_is_that_of_diffusers(
    engine: str,
    tiny_checkpoint: Path,
    files: Mapping[str, Path],
    request: pytest.FixtureRequest,
) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(tiny_checkpoint, safety_checker=None)
    for file in files.values():
        pipe.load_textual_inversion(str(file.parent), weight_name=file.name)
    # diffusers looks for the word as it is spelled in the file alone.
    spelled = pipe.maybe_convert_prompt(PROMPT.replace("<Cat-Toy>", "<cat-toy>"), pipe.tokenizer)
    right_ids = pipe.tokenizer(spelled, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        right = pipe.text_encoder(torch.tensor([right_ids]))[0].numpy()

    tokenizer = ClipTokenizer(tiny_checkpoint / "tokenizer")
    words = tokenizer.learn([inversion.read(file) for file in files.values()])
    ids = [piece.id for piece in tokenizer.pieces(PROMPT)]
    assert ids == right_ids
    assert len(set(ids) & set(words.rows.values())) == 4

    fixture = {"openvino": "exported_openvino", "onnxruntime": "exported_onnx"}[engine]
    folder = request.getfixturevalue(fixture) / "text_encoder"
    file = next(path for path in folder.iterdir() if path.suffix in {".xml", ".onnx"})
    changes = model.changes({"text_encoder": file}, words=words)["text_encoder"]
    found = loras.run(engine, file, changes, {"input_ids": np.array([ids])})
    assert np.abs(found - right).max() < 1e-5 * np.abs(right).max()


def test_webui_and_diffusers_layouts(tmp_path: Path) -> None:
    """The word is the file's own where it has one, else the file's name; "FILE:WORD" names it."""
    values = vectors(2)
    as_tensor = {"<s>": torch.from_numpy(values)}
    torch.save(as_tensor, tmp_path / "learned_embeds.bin")
    torch.save(torch.from_numpy(values), tmp_path / "bare.pt")
    torch.save({"clip_l": as_tensor["<s>"]}, tmp_path / "large.pt")
    loras.save(tmp_path / "easynegative.safetensors", {"emb_params": values})
    webui(tmp_path / "saved.pt", values, "own")
    webui(tmp_path / "nameless.pt", values, None)
    expected = {
        "learned_embeds.bin": "<s>",
        "bare.pt": "bare",
        "large.pt": "large",
        "easynegative.safetensors": "easynegative",
        "saved.pt": "own",
        "nameless.pt": "nameless",
    }
    for name, word in expected.items():
        read = inversion.opened(tmp_path / name)
        assert read.word == word
        np.testing.assert_array_equal(read.vectors["text_encoder"], values)
        assert inversion.opened(f"{tmp_path / name}:<mine>").tokens == ["<mine>", "<mine>_1"]


def test_the_first_files_of_textual_inversion(tmp_path: Path) -> None:
    """Gal et al.'s own code saves a torch module, of which the vectors are taken."""

    class ParameterDict:  # what torch 1 wrote: a torch module's __dict__
        def __reduce__(self) -> Any:
            tensors = OrderedDict({"*": torch.nn.Parameter(torch.from_numpy(vectors(1)))})
            return _named(), (), {"training": True, "_parameters": tensors}

    def _named() -> Any:
        return torch.nn.modules.container.ParameterDict

    content = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": ParameterDict()}
    torch.save(content, tmp_path / "embeddings_gs-500.pt")
    read = inversion.read(tmp_path / "embeddings_gs-500.pt", "*")
    np.testing.assert_array_equal(read.vectors["text_encoder"], vectors(1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_number_types_and_strides_of_pickles(dtype: str, tmp_path: Path) -> None:
    whole = torch.from_numpy(vectors(6)).to(getattr(torch, dtype))
    part = whole[1:5:2, ::3].T  # a view: an offset, and strides out of order
    torch.save({"x": part}, tmp_path / "view.pt")
    np.testing.assert_array_equal(pickles.read(tmp_path / "view.pt")["x"], part.double().numpy())


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def disguised(path: Path, content: bytes) -> Path:
    """A pickle made to look like torch.save's."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", np.arange(8, dtype="f4").tobytes())
    return path


def test_hostile_pickles_run_nothing(tmp_path: Path) -> None:
    import builtins
    import os

    witness = tmp_path / "was here"
    hostile = [
        Call(os.system, f"touch '{witness}'"),
        Call(builtins.eval, f"open({str(witness)!r}, 'w')"),
        Call(getattr, "x", "upper"),
        Call(io.open, str(witness), "w"),
        Call(torch.load, "x"),
    ]
    for number, call in enumerate(hostile):
        file = disguised(tmp_path / f"{number}.pt", pickle.dumps({"x": call}))
        with pytest.raises(AdapterError, match="refused"):
            inversion.read(file)
    assert not witness.exists()


def test_functions_that_are_allowed_cannot_be_changed(tmp_path: Path) -> None:
    """BUILD sets attributes of whatever lies on the stack."""
    code = b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb."
    with pytest.raises(AdapterError, match="changes a function"):
        pickles.read(disguised(tmp_path / "x.pt", code))


class Storage:
    """Stands for eight floats, which torch refers to by a persistent id."""


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (9,), (1,)), (5, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (1 << 40,), (0,)), (0, (2,), ())],
)
def test_tensors_cannot_reach_outside_their_numbers(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...], tmp_path: Path
) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, found: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", 8) if found is Storage else None

    written = io.BytesIO()
    rebuild, _ = torch.zeros(1).__reduce_ex__(2)  # what pickles call to make a tensor
    arguments = (Storage, offset, size, stride, False, OrderedDict())
    Pickler(written).dump({"x": Call(rebuild, *arguments)})
    with pytest.raises(AdapterError, match=r"a tensor (of|reaches|is)"):
        pickles.read(disguised(tmp_path / "x.pt", written.getvalue()))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_unreadable_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(AdapterError, match=r"broken\.pt"):
        inversion.read(tmp_path / "broken.pt")


def test_files_that_do_not_fit_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    tokenizer = ClipTokenizer(tiny_checkpoint / "tokenizer")
    shapes = {"text_encoder": {MATRIX: (604, WIDTH)}, "unet": {}}
    wide = loras.save(tmp_path / "wide.safetensors", {"<wide>": vectors(1, width=768)})
    with pytest.raises(AdapterError, match=r"768 wide and the model needs 128"):
        tokenizer.learn([inversion.read(wide)]).changes(shapes)
    good = loras.save(tmp_path / "good.safetensors", {"<good>": vectors(2)})
    with pytest.raises(AdapterError, match="'<good>' is taken"):
        tokenizer.learn([inversion.read(good), inversion.read(good)])
    with pytest.raises(AdapterError, match=r"'<\|endoftext\|>' is taken"):
        tokenizer.learn([inversion.read(good, "<|endoftext|>")])
    nameless = tokenizer.learn([inversion.read(good, "<other>")])
    with pytest.raises(AdapterError, match="does not name its embedding matrix"):
        nameless.changes({"text_encoder": {}})
    two = loras.save(tmp_path / "two.safetensors", {"a": vectors(1), "b": vectors(1)})
    with pytest.raises(AdapterError, match="no vectors"):
        inversion.read(two)
    with pytest.raises(AdapterError, match="no such file"):
        inversion.opened(tmp_path / "absent.pt")


def found(tokenizer: ClipTokenizer, words: inversion.Words, text: str) -> list[int]:
    """How many vectors of the words each chunk of a text holds."""
    rows = set(words.rows.values())
    return [sum(int(one) in rows for one in chunk.ids[0]) for chunk in chunks_of(tokenizer, text)]


@pytest.mark.parametrize("before", [0, 60, 67, 68, 70, 74, 75])
def test_a_word_is_never_torn_at_a_chunk_s_end(
    before: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """webui's rule: where its vectors do not fit it begins the next chunk."""
    file = loras.save(tmp_path / "zork.safetensors", {"emb_params": vectors(8)})
    tokenizer = ClipTokenizer(tiny_checkpoint / "tokenizer")
    words = tokenizer.learn([inversion.read(file)])
    one = len(tokenizer.pieces("apple"))
    text = " ".join(["apple"] * (before // one)) + " (zork:1.2) boat"
    held = found(tokenizer, words, text)
    assert [count for count in held if count] == [8]
    fits = before + 8 <= 75
    assert held[0] == (8 if fits else 0)
    # The word is cut away whole where prompts are cut.
    cut = chunks_of(tokenizer, text, long_prompt="truncate")
    (chunk,) = cut
    assert sum(int(one) in words.rows.values() for one in chunk.ids[0]) == (8 if fits else 0)
    assert fits or cut.dropped[0].endswith("dropped: zork boat")


def test_a_word_that_no_chunk_can_hold_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    tokenizer = ClipTokenizer(tiny_checkpoint / "tokenizer")
    most = loras.save(tmp_path / "most.safetensors", {"emb_params": vectors(75)})
    words = tokenizer.learn([inversion.read(most)])
    assert found(tokenizer, words, "apple most boat") == [0, 75, 0]
    huge = inversion.Embedding(tmp_path / "huge.pt", "huge", {"text_encoder": vectors(76)})
    with pytest.raises(AdapterError, match=r"has 76 vectors, .* reads 75 tokens at once"):
        tokenizer.learn([huge])


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("a cat", 1),
        ("A CAT, a Cat. (cat:1.2) cat!", 4),
        ("concatenate cats bobcat Cats", 0),
        ("cat5 5cat cat_cat cat-cat", 6),  # webui's tokens end there, too
        ("一只cat坐着", 1),  # written without blanks
        ("the house of  sks, The  House Of  Sks", 2),
        ("the house of sksy", 0),
        ("<toy>", 1),
        ("a<toy>b <TOY>, (<toy>)", 3),
        ("v1 v15 V1", 3),
        ("café cafe\u0301 cafés", 2),
    ],
)
def test_words_are_found_where_a_word_stands(
    text: str, times: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    names = ["cat", "the house of sks", "<toy>", "v1", "cafe\u0301"]
    files = [loras.save(tmp_path / f"{i}.safetensors", {"x": vectors(1)}) for i in range(5)]
    tokenizer = ClipTokenizer(tiny_checkpoint / "tokenizer")
    plain = [piece.id for piece in tokenizer.pieces(text)]
    read = [inversion.read(file, name) for file, name in zip(files, names, strict=True)]
    words = tokenizer.learn(read)
    assert found(tokenizer, words, text) == [times]
    if not times:
        assert [piece.id for piece in tokenizer.pieces(text)] == plain


def test_the_longer_of_two_words_wins(tiny_checkpoint: Path, tmp_path: Path) -> None:
    file = loras.save(tmp_path / "x.safetensors", {"x": vectors(1)})
    tokenizer = ClipTokenizer(tiny_checkpoint / "tokenizer")
    words = tokenizer.learn([inversion.read(file, "bad"), inversion.read(file, "bad hands")])
    (piece,) = tokenizer.pieces("bad hands")
    assert piece.id == words.rows["bad hands"]


def test_both_encoders_of_xl_get_their_own_vectors(tiny_checkpoint: Path, tmp_path: Path) -> None:
    values = {"clip_l": vectors(2, 1, 8), "clip_g": vectors(2, 2, 12)}
    read = inversion.read(loras.save(tmp_path / "xl.safetensors", values))
    words = ClipTokenizer(tiny_checkpoint / "tokenizer").learn([read])
    shapes = {"text_encoder": {MATRIX: (604, 8)}, "text_encoder_2": {MATRIX: (604, 12)}}
    for part, key in (("text_encoder", "clip_l"), ("text_encoder_2", "clip_g")):
        old = vectors(604, 3, values[key].shape[1])
        new = words.changes(shapes)[part][MATRIX](old)
        np.testing.assert_array_equal(new, np.concatenate([old, values[key]]))
