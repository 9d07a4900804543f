"""Messages: of bounded length, and with commands that work."""

import json
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from pleinair.runtime.errors import BundleError, shown, to_install


def test_a_message_stays_short_whatever_it_repeats() -> None:
    assert len(str(BundleError("x" * 10**6))) == 2001
    assert str(BundleError("config.json: missing")) == "config.json: missing"
    assert shown(["y"] * 10**5).endswith("'y', 'y']")
    assert shown("a\nb") == "a b"


class Installed:
    """What importlib.metadata knows of an installation."""

    def __init__(self, url: str | None, folder: Path) -> None:
        self.url, self.folder = url, folder

    def read_text(self, name: str) -> str | None:
        return json.dumps({"url": self.url}) if self.url else None

    def locate_file(self, name: str) -> Path:
        return self.folder


@pytest.mark.parametrize("noted", [True, False], ids=["installed", "egg-info of the checkout"])
def test_extras_are_added_from_the_checkout(
    noted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    found = Installed(checkout.as_uri(), tmp_path) if noted else Installed(None, checkout)
    monkeypatch.setattr(metadata, "distribution", lambda name: found)
    assert shlex.split(to_install("hub")) == ["pip", "install", f"{checkout}[hub]"]


def test_elsewhere_the_name_has_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Installed(None, tmp_path)
    monkeypatch.setattr(metadata, "distribution", lambda name: found)
    assert to_install("hub").startswith('pip install "pleinair[hub]"')
