"""An openvino.Core that writes down which models it is asked to compile or to import."""

from dataclasses import dataclass
from typing import Any

import openvino
import pytest


@dataclass
class Call:
    """kind: "compile" or "import". compiled: the openvino.CompiledModel, where there is one."""

    kind: str
    config: dict[str, Any]
    compiled: Any = None


class _Core:
    def __init__(self, core: Any, calls: list[Call]) -> None:
        self.core, self.calls = core, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def compile_model(self, model: Any, device: str, config: dict[str, Any]) -> Any:
        return self._noted(Call("compile", config), model, device)

    def import_model(self, content: Any, device: str, config: dict[str, Any]) -> Any:
        return self._noted(Call("import", config), content, device)

    def _noted(self, call: Call, source: Any, device: str) -> Any:
        self.calls.append(call)  # before it is tried: what fails was asked, too
        ask = getattr(self.core, f"{call.kind}_model")
        call.compiled = ask(source, device, call.config)
        return call.compiled


def watched(patch: pytest.MonkeyPatch) -> list[Call]:
    """The list that engines' calls are written to, of those made while `patch` holds."""
    calls: list[Call] = []
    core = openvino.Core
    patch.setattr(openvino, "Core", lambda: _Core(core(), calls))
    return calls
