"""The table of commands, the help, and mistakes in one line; nothing is painted here."""

import re
from pathlib import Path

import pytest

from pleinair.runtime import __version__
from pleinair.runtime.cli import main
from pleinair.runtime.cli.arguments import flags, parser
from pleinair.runtime.cli.commands import COMMANDS
from pleinair.runtime.cli.help import screen
from pleinair.runtime.cli.picture import how_many, pictures_of
from pleinair.runtime.cli.typed import options_of
from pleinair.runtime.errors import SettingError, to_install


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_help_fits_a_screen() -> None:
    lines = screen(parser()).splitlines()
    assert len(lines) < 30
    assert max(map(len, lines)) <= 80
    for name in COMMANDS:
        assert any(line.startswith(f"  {name} ") for line in lines)


def test_every_option_of_the_screen_is_one() -> None:
    named = re.findall(r"(?<![\w-])--[\w-]+", screen(parser()))
    assert set(named) - {"--help"} <= set(parser().flags())


@pytest.mark.parametrize("words", [["--help"], ["--help", "all"], ["-h"], ["models", "--help"]])
def test_help_is_no_mistake(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 0
    assert capsys.readouterr().err == ""


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"pleinair {__version__}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--stps", "3"], "--stps is no option of pleinair; did you mean --steps?"),
        (["--stps=3"], "--stps is no option of pleinair; did you mean --steps?"),
        (["--n-sampels", "3"], "did you mean --n-samples?"),
        (["--zebra"], "--zebra is no option of pleinair; see: pleinair --help"),
        (["modles"], "'modles' is no command; did you mean: pleinair models?"),
        (["dcotor", "--steps", "3"], "did you mean: pleinair doctor?"),
        (["--steps", "x"], "--steps is 'x'; give a whole number"),
        (["--ddim_steps", "2.5"], "--steps is '2.5'; give a whole number"),
        (["--scale", "seven"], "--scale is 'seven'; give a number"),
        (["--steps"], "--steps: expected one argument"),
        (["--outdir", "a\0b"], "'a?b' holds a null byte"),
        (["--steps=--"], "--steps is '--', which is no value"),
        (["--engine", "tpu"], "--engine: invalid choice: 'tpu'"),
        (["--help", "steps"], "--help steps: give --help or --help all"),
        (["a cat", "--prompt", "a dog"], "'a cat' would be the prompt, and there is --prompt"),
        (["a cat", "--from-file", "x"], "'a cat' would be the prompt, and there is --from-file"),
        (["--prompt", "a", "--from-file", "x"], "--from-file: not allowed with"),
        (["models", "--chekc"], "--chekc is no option of pleinair models"),
        (["models", "mine"], "'mine' is one word too many"),
        (["tune"], "the following arguments are required: model"),
        (["tune", "m", "--rounds", "x"], "--rounds is 'x'; give a whole number"),
        (["doctor", "--fast"], "--fast is no option of pleinair doctor"),
        (["completion", "csh"], "shell: invalid choice: 'csh'"),
        (["--steps", "\x1b[2J\n"], "--steps is '?[2J'"),
    ],
    ids=lambda value: " ".join(value)[:30].strip() if isinstance(value, list) else None,
)
def test_mistakes_are_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    assert says in line or says.replace("\\\\", "\\") in line
    assert "\x1b" not in line
    assert output.out == ""


@pytest.mark.parametrize(
    ("words", "prompt"),
    [
        (["a red apple"], "a red apple"),
        (["a", "red", "apple", "--steps", "3"], "a red apple"),
        (["--steps", "3", "a red apple"], "a red apple"),
        (["--", "--steps"], "--steps"),
        (["--prompt", "a red apple"], "a red apple"),
        (["--steps", "3"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_are_the_prompt(words: list[str], prompt: str | None) -> None:
    assert options_of(words).prompt == prompt


def test_paint_is_the_command_that_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["paint", "models", "--model", "nowhere"], ["a cat", "--model", "nowhere"]):
        assert main(words) == 2
        assert "nowhere: no such model folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("--n_samples", "--n-samples"),
        ("--n_iter", "--n-iter"),
        ("--n_rows", "--n-rows"),
        ("--skip_grid", "--skip-grid"),
        ("--skip_save", "--skip-save"),
        ("--fixed_code", "--fixed-code"),
        ("--dpm_solver", "--dpm-solver"),
        ("--ddim_steps", "--ddim-steps"),
        ("--ddim_eta", "--ddim-eta"),
        ("--from_file", "--from-file"),
    ],
)
def test_flags_of_compvis_with_dashes(one: str, other: str) -> None:
    known = parser().flags()
    assert known[one] is known[other]


def test_a_seed_of_minus_one_is_any() -> None:
    assert options_of(["--seed", "-1"]).seed is None
    assert options_of(["--seed", "-2"]).seed == -2


def test_a_name_that_is_near_a_known_one(capsys: pytest.CaptureFixture[str]) -> None:
    for words, near in (
        (["--model", "stable-difusion-v1-4"], "stable-diffusion-v1-4"),
        (["--model", "pockt"], "pocket"),
        (["--scheduler", "eulr"], "euler"),
        (["--profile", "balancd"], "balanced"),
        (["--resize", "strech", "--init-img", "x.png"], "stretch"),
        (["--compare", "stepps=1,2"], "steps"),
    ):
        assert main(words) == 2
        assert f"did you mean {near}?" in capsys.readouterr().err.splitlines()[-1]


def test_a_command_whose_extra_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for command, extra in (("convert", "export"), ("quantize", "int8")):
        assert main([command, "x"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert to_install(extra) in line


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_parser(name: str) -> None:
    assert COMMANDS[name].parser(name).format_help()


def test_flags_stand_for_the_arguments_of_calls() -> None:
    said = {"num_inference_steps": "--steps", "width": "--W", "image": "--init-img"}
    said |= {"loras": "--lora", "cache_dir": "--cache-dir", "max_memory": "--max-memory"}
    assert said.items() <= flags().items()


def test_too_many_pictures_are_refused() -> None:
    with pytest.raises(SettingError, match="at most 10,000"):
        how_many(options_of(["--n-samples", str(10**30)]))


def test_a_drawn_seed_is_the_one_that_is_recorded() -> None:
    """In a line of a prompt file too, whatever the command line says."""
    for words, seed in ((["boat", "--seed", "-1"], 5), (["boat", "--seed", "7"], 5)):
        line = options_of(words)
        line.seed = int(words[-1])
        found = [picture.settings["seed"] for picture in pictures_of(line, seed)]
        assert all(0 <= one < 2**32 for one in found)
        assert (found == [7]) == (words[-1] == "7")
