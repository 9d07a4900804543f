"""How commands end: an exit code, and one line where there is something to say."""

import pytest

from pleinair.runtime.errors import SettingError
from pleinair.runtime.exits import exit_code


def mistaken() -> None:
    raise SettingError("steps is 0; give 1 or more")


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("run", "code", "says"),
    [
        (lambda: None, 0, ""),
        (lambda: 3, 3, ""),
        (mistaken, 2, "here: steps is 0; give 1 or more\n"),
        (interrupted, 130, "here: stopped\n"),
    ],
)
def test_every_end(run, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(run, "here", "here: stopped") == code
    assert capsys.readouterr().err == says
