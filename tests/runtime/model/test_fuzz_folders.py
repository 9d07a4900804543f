"""A model's folder damaged in many ways: it is refused in one line, or paints.

Each case damages one file of a copy of the bundled model. The default run takes some of the
cases, the slow one many more of the same.
"""

import json
import logging
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes import POCKET
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import PleinairError
from pleinair.runtime.model import manifest

PARTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
SETTINGS = ("model_index.json", "scheduler/scheduler_config.json", "pleinair.json")
CALL = {"seed": 1, "num_inference_steps": 1, "width": 64, "height": 64}
LARGE = 200_000  # bytes of a file that is linked to, and not damaged
SECONDS = 2.0  # of this process's own work, of which opening a whole folder takes a twentieth

DEEP = "@deep@"
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    3,
    2.5,
    1e30,
    -1e30,
    10**9,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "text",
    "x" * 100_000,
    [],
    [1, 2, 3],
    [None],
    {},
    {"a": {"b": [{}]}},
    DEEP,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundled model in OpenVINO's format, to be damaged; what is large are links."""
    made = tmp_path / "model"
    names = [*SETTINGS, *(f"tokenizer/{file.name}" for file in (POCKET / "tokenizer").iterdir())]
    names += [f"{part}/{file}" for part in PARTS for file in ("config.json", "openvino_model.xml")]
    names += [f"{part}/openvino_model.bin" for part in PARTS]
    for name in names:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        if (POCKET / name).stat().st_size > LARGE:
            (made / name).symlink_to(POCKET / name)
        else:
            shutil.copy(POCKET / name, made / name)
    content = json.loads((made / "pleinair.json").read_text(encoding="utf-8"))
    kept = {name: facts for name, facts in content["files"].items() if name in names}
    (made / "pleinair.json").write_text(json.dumps({**content, "files": kept}), encoding="utf-8")
    return made


def damaged_json(text: str, draw: random.Random) -> str:
    """With one value, of any depth, that is another one or gone."""
    content = place = json.loads(text)
    while True:
        key = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        inside = place[key]
        if not isinstance(inside, dict | list) or not inside or draw.random() < 0.3:
            break
        place = inside
    if draw.random() < 0.15:
        del place[key]
    else:
        place[key] = draw.choice((*VALUES, [inside], str(inside)))
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(content).replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000)
    finally:
        sys.set_int_max_str_digits(4300)


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    where = draw.randrange(len(content))
    before, after = content[:where], content[where + 1 :]
    return draw.choice(
        (
            b"",
            b"\0" * len(content),
            before,
            before + bytes([content[where] ^ 1 << draw.randrange(8)]) + after,
            before + draw.randbytes(20) + after,
            content * 2,
            b"[" * 100_000,
        )
    )


def in_its_place(file: Path, draw: random.Random) -> None:
    """Something else than a file, or nothing."""
    file.unlink()
    stand_ins: list[Callable[[], object]] = [lambda: None, file.mkdir]
    if os.name == "posix":
        stand_ins += [lambda target=target: file.symlink_to(target) for target in LINKS]
        stand_ins.append(lambda: os.mkfifo(file))
    draw.choice(stand_ins)()


LINKS = ("config.json", "nowhere", "/dev/zero", "/dev/null", "..")


def damage(folder: Path, draw: random.Random, *, listed: bool = False) -> str:
    """Damage a file, whose name is returned; tokenizers have cases of their own.

    listed: one of those that the manifest lists, which stays.
    """
    files = sorted(
        file
        for file in folder.rglob("*")
        if not file.is_symlink() and file.is_file() and file.parent.name != "tokenizer"
        if not listed or file.name != "pleinair.json"
    )
    # Every other case goes to the configurations, of which there are few.
    configs = [file for file in files if file.name.endswith("config.json")]
    file = draw.choice(configs if draw.random() < 0.5 else files)
    if draw.random() < 0.15:
        in_its_place(file, draw)
    elif file.suffix == ".json" and draw.random() < 0.8:
        text = damaged_json(file.read_text(encoding="utf-8"), draw)
        file.write_text(text, encoding="utf-8")
    else:
        file.write_bytes(damaged_bytes(file.read_bytes(), draw))
    if not listed and file.name != "pleinair.json" and draw.random() < 0.7:
        (folder / "pleinair.json").unlink()  # which would say that the file is another one
    return file.relative_to(folder).as_posix()


def paints(folder: Path, *, really: bool) -> bool:
    """Whether the model is opened and a call planned, and `really` painted.

    What is raised instead is a PleinairError of one short line, and soon.
    """
    begun, said = time.process_time(), ""
    try:
        pipe = StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile="exact")
        pipe.plan("a red apple", **CALL)
        took = time.process_time() - begun
        if really:
            pipe("a red apple", **CALL)
    except PleinairError as error:
        took, said = time.process_time() - begun, str(error)
    assert took < SECONDS or really
    assert "\n" not in said
    assert len(said) < 2100
    return not said


def run(folder: Path, seeds: range, *, painted: int) -> None:
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole, symlinks=True)
    opened = 0
    for seed in seeds:
        shutil.rmtree(folder)
        shutil.copytree(whole, folder, symlinks=True)
        name = damage(folder, random.Random(seed))
        try:
            opened += paints(folder, really=opened < painted)
        except Exception as error:
            pytest.fail(f"seed {seed}, {name}: {type(error).__name__}: {str(error)[:500]}")
    assert opened < len(seeds) / 2  # most damage is found


def test_damaged_folders(folder: Path) -> None:
    assert paints(folder, really=False)
    run(folder, range(50), painted=2)


def test_nothing_that_the_manifest_lists_changes_in_silence(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole, symlinks=True)
    for seed in range(40):
        shutil.rmtree(folder)
        shutil.copytree(whole, folder, symlinks=True)
        name = damage(folder, random.Random(seed), listed=True)
        caplog.clear()
        manifest._tell.cache_clear()  # each line is said once a process
        with caplog.at_level(logging.INFO, "pleinair"):
            opened = paints(folder, really=False)
        assert not opened or name in caplog.text, seed


@pytest.mark.slow
def test_many_damaged_folders(folder: Path) -> None:
    run(folder, range(50, 3000), painted=200)
