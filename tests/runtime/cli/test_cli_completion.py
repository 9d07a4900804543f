"""Scripts that complete commands, options and values; bash's is run."""

import shutil
import subprocess
from collections.abc import Sequence

import pytest

from pleinair.runtime.cli import main
from pleinair.runtime.cli.commands import COMMANDS


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[Sequence[str], set[str]]] = [
        (["do"], {"doctor"}),
        (["--negative_"], {"--negative_prompt"}),
        (["a cat", "--scheduler", "euler_"], {"euler_a", "euler_exponential", "euler_karras"}),
        (["--profile", "b"], {"balanced"}),
        (["tune", "--ro"], {"--rounds"}),
        (["convert", "--prec"], {"--precision"}),
        (["convert", "--precision", ""], {"fp16", "fp32"}),
        (["paint", "a c"], set()),
    ]
    lines = [script("bash", capsys)]
    for words, _ in cases:
        quoted = " ".join(f"'{word}'" for word in ("pleinair", *words))
        lines += [f"COMP_WORDS=({quoted})", f"COMP_CWORD={len(words)}", "_pleinair"]
        lines.append('echo "${COMPREPLY[@]}"')
    done = subprocess.run(["bash"], input="\n".join(lines), capture_output=True, text=True)
    assert done.stderr == ""
    assert [set(line.split()) for line in done.stdout.splitlines()] == [to for _, to in cases]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_every_command_is_in_the_others(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert all(name in text for name in COMMANDS)
    assert "n-samples" in text
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True)
        assert done.stderr == ""
