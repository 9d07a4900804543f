"""Files of prompts: options of a line's own, and lines that cannot be used."""

from argparse import Namespace
from pathlib import Path

import pytest

from pleinair.runtime.cli.arguments import parser
from pleinair.runtime.cli.prompts import PromptFile, read_prompts
from pleinair.runtime.errors import PromptError

STEPS, SCALE, WIDTH = "num_inference_steps", "guidance_scale", "width"


def read(tmp_path: Path, *lines: str, given: str = "") -> PromptFile:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_prompts(path, parser().parse_args(given.split()))


def prompts_of(file: PromptFile) -> list[str]:
    return [line.options.prompt for line in file.lines]


def only(tmp_path: Path, line: str, given: str = "") -> Namespace:
    file = read(tmp_path, line, given=given)
    assert not file.bad
    assert len(file.lines) == 1
    return file.lines[0].options


def test_lines_without_options_are_prompts(tmp_path: Path) -> None:
    prompts = [
        "a red apple",
        'it\'s "quoted" (a:1.2) [b|c]',
        "苹果",
        "a -- b",
        "a - b -c",
        "50% --",
    ]
    file = read(tmp_path, "# comment", "", *prompts, "  # another", "   ")
    assert prompts_of(file) == prompts
    assert [line.number for line in file.lines] == [3, 4, 5, 6, 7, 8]
    assert not file.bad


def test_options_of_a_line(tmp_path: Path) -> None:
    options = only(tmp_path, "a red apple --seed 7 --steps 20 --scale 5 --W 512 --scheduler euler")
    assert options.prompt == "a red apple"
    assert options.seed == 7
    assert getattr(options, STEPS) == 20
    assert getattr(options, SCALE) == 5.0
    assert getattr(options, WIDTH) == 512
    assert options.scheduler == "euler"


def test_every_name_of_an_option_works(tmp_path: Path) -> None:
    for name in ("--steps", "--ddim_steps", "--num-inference-steps"):
        assert getattr(only(tmp_path, f"apple {name} 9"), STEPS) == 9
    assert only(tmp_path, "apple --negative-prompt=pear").negative_prompt == "pear"
    assert only(tmp_path, "apple --plms").scheduler == "plms"


def test_quotes_and_backslashes(tmp_path: Path) -> None:
    options = only(tmp_path, r'a \(b\) --negative-prompt "two \(apples\), it\'s" --seed 1')
    assert options.prompt == r"a \(b\)"
    assert options.negative_prompt == r"two \(apples\), it\'s"
    assert only(tmp_path, "a --negative-prompt 'say \"hi\" #2'").negative_prompt == 'say "hi" #2'


def test_a_line_of_options_alone(tmp_path: Path) -> None:
    options = only(tmp_path, '--seed 3 --prompt "a red apple --steps 2"')
    assert options.prompt == "a red apple --steps 2"
    assert options.seed == 3
    assert getattr(options, STEPS) is None


def test_the_command_line_holds_for_every_line(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        "apple --seed 1",
        "boat --steps 4",
        given="--steps 9 --seed 5 --outdir out --plms",
    )
    first, second = (line.options for line in file.lines)
    assert (first.seed, getattr(first, STEPS)) == (1, 9)
    assert (second.seed, getattr(second, STEPS)) == (5, 4)
    assert {first.scheduler, second.scheduler} == {"plms"}
    assert first.outdir == Path("out")
    assert only(tmp_path, "apple --scheduler euler", given="--plms").scheduler == "euler"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("apple --seed banana", "--seed.*banana"),
        ("apple --seed", "--seed.*expected one argument"),
        ("apple --sede 7", "--sede is no option"),
        ("apple --ar 16:9", "--ar is no option"),
        ("apple --seed 7 on a table", "'on' belongs to no option; quote"),
        ("apple --negative-prompt two pears", "'pears' belongs to no option; quote"),
        ('apple --negative-prompt "two pears', "a quote is never closed"),
        ("apple --model other", "model is for the whole run"),
        ("apple --outdir other", "outdir is for the whole run"),
        ("apple --skip_grid", "skip_grid is for the whole run"),
        ("apple --from-file other.txt", "--from-file is for the whole run"),
        ("apple --prompt pear", "two prompts"),
        ("--seed 7", "no prompt"),
        ("apple --plms --scheduler euler", "not allowed with"),
        ("apple --style vaporwav", "did you mean: vaporwave"),
        ("apple --help", "--help"),
        ("apple -- --seed 7 -h", "-h|--help"),
    ],
)
def test_bad_lines_are_told_and_the_rest_is_kept(
    tmp_path: Path, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = read(tmp_path, "boat", line, "tree --seed 2")
    assert prompts_of(file) == ["boat", "tree"]
    assert [number for number, _ in file.bad] == [2]
    with pytest.raises(PromptError, match=says):
        raise PromptError(file.bad[0][1])
    assert "\n" not in file.bad[0][1]
    output = capsys.readouterr()
    assert not output.out
    assert not output.err


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbfboat\r\n\xff broken\r\nnull\0\r\napple --seed 1\r\n")
    file = read_prompts(path, parser().parse_args([]))
    assert prompts_of(file) == ["boat", "apple"]
    assert file.bad == [(2, "not UTF-8 at byte 1"), (3, "binary data")]


def test_a_file_without_a_good_line(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no prompt in it"):
        read(tmp_path, "# nothing", "")
    with pytest.raises(PromptError, match=r"no prompt in it.*line 1: .*banana"):
        read(tmp_path, "apple --seed banana")
    with pytest.raises(PromptError, match=r"nowhere\.txt: cannot be read"):
        read_prompts(tmp_path / "nowhere.txt", parser().parse_args([]))
