"""Nothing is reported to anybody: where we bring OpenVINO in, it finds nothing to report with."""

import subprocess
import sys

import pytest

from pleinair.runtime.engines import telemetry

NAME = "openvino_telemetry"


@pytest.mark.parametrize(
    "ours",
    [
        "from pleinair.runtime.engines.openvino import OpenVinoEngine; OpenVinoEngine()",
        "import pleinair.export, openvino",
    ],
)
def test_openvino_has_no_reporter(ours: str) -> None:
    """The entry's None is an import that fails, as where the package is not installed."""
    told = f"[m for m in sys.modules if {NAME!r} in m], sys.modules[{NAME!r}]"
    code = f"{ours}\nimport sys\nprint({told})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"['{NAME}'] None\n"


def test_a_process_that_has_it_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = object()
    monkeypatch.setitem(sys.modules, NAME, theirs)
    telemetry.switch_off()
    assert sys.modules[NAME] is theirs
