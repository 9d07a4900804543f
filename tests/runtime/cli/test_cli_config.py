"""pleinair.toml and the environment: which wins, and what is refused."""

import os
from pathlib import Path

import pytest

from pleinair.runtime.cli.config import FILE
from pleinair.runtime.cli.typed import options_of
from pleinair.runtime.errors import SettingError
from pleinair.runtime.speed.tuning import settings_folder


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own folder of settings; the project's is the one that the test is in."""
    monkeypatch.setattr("pleinair.runtime.cli.config.settings_folder", lambda: tmp_path / "user")
    (tmp_path / "user").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "user" / FILE


def test_the_nearer_one_wins(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user.write_text("steps = 1\nscale = 1\nthreads = 1\nW = 64\n")
    Path(FILE).write_text("steps = 2\nscale = 2.5\nthreads = 2\n")
    monkeypatch.setenv("PLEINAIR_THREADS", "3")
    monkeypatch.setenv("PLEINAIR_STEPS", "9")  # no default of any option
    options = options_of(["--steps", "4"])
    found = options.num_inference_steps, options.guidance_scale, options.threads, options.width
    assert found == (4, 2.5, 3, 64)


def test_keys_are_flags_by_any_of_their_names(user: Path) -> None:
    user.write_text(
        'ddim_steps = 5\nn-samples = 2\nnegative_prompt = "fog"\noutdir = "out"\nplms = true\n'
        'skip_grid = true\nskip_save = false\nlora = ["a.safetensors", "b.safetensors:0.5"]\n'
    )
    options = options_of([])
    assert options.num_inference_steps == 5
    assert options.n_samples == 2
    assert options.negative_prompt == "fog"
    assert options.outdir == Path("out")
    assert options.scheduler == "plms"
    assert options.skip_grid is True
    assert options.skip_save is False
    assert options.lora == ["a.safetensors", "b.safetensors:0.5"]


def test_what_is_typed_replaces_a_list(user: Path) -> None:
    user.write_text('lora = ["a.safetensors"]\n')
    assert options_of(["--lora", "c.safetensors"]).lora == ["c.safetensors"]


def test_a_picture_that_is_painted_again_is_not_changed(user: Path) -> None:
    user.write_text('steps = 5\nmodel = "mine"\nthreads = 2\nprofile = "fast"\n')
    options = options_of(["--params-from", "a.png"])
    found = options.num_inference_steps, options.model, options.profile, options.threads
    assert found == (None, None, None, 2)


def test_no_config(user: Path) -> None:
    user.write_text("steps = 5\n")
    Path(FILE).write_text("not toml")
    assert options_of(["--no-config"]).num_inference_steps is None


def test_the_projects_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path(FILE).write_text("steps = 2\noutdir = 'x'\n")
    options_of([])
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"defaults from {Path(FILE).absolute()}: steps, outdir"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("step = 2", "no option is named 'step'; did you mean steps?"),
        ("zebra = 2", "no option is named 'zebra'; see --help all"),
        ("steps = 'many'", "--steps is 'many'; give a whole number"),
        ("steps = true", "steps is True; give a text or a number"),
        ("steps = [1, 2]", "steps is [1, 2]; give a text or a number"),
        ("steps = {a = 1}", "give a text or a number"),
        ("steps = 2020-01-01", "give a text or a number"),
        ("skip_grid = 'yes'", "skip_grid is yes; give true or false"),
        ("prompt = 'a cat'", "prompt is for the command line alone"),
        ("version = true", "no option is named 'version'"),
        ("help = 'all'", "no option is named 'help'"),
        ("no-config = true", "is for the command line alone"),
        ("[paint]\nsteps = 2", "no option is named 'paint'"),
        ("steps = ", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
        ("engine = 'tpu'", "--engine: invalid choice"),
        ("#" + "x" * (1 << 20), "too large"),
    ],
    ids=lambda value: value[:20],
)
def test_a_file_that_cannot_be_used_is_one_line(content: str, says: str) -> None:
    Path(FILE).write_text(content)
    with pytest.raises(SettingError) as caught:
        options_of([])
    assert str(caught.value).startswith(f"{FILE}: ")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


def test_other_things_of_its_name(user: Path) -> None:
    user.mkdir()
    with pytest.raises(SettingError, match="not a regular file"):
        options_of([])
    user.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(user)
        with pytest.raises(SettingError, match="not a regular file"):
            options_of([])
        user.unlink()
    user.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingError, match="not TOML"):
        options_of([])


def test_a_bad_environment_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEINAIR_THREADS", "all")
    with pytest.raises(SettingError, match="PLEINAIR_THREADS: --threads is 'all'"):
        options_of([])


def test_the_users_folder_is_the_systems() -> None:
    assert settings_folder().name == "pleinair"
