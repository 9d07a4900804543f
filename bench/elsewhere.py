"""The worker under an interpreter whose environment does not hold pleinair: run by its path.

python elsewhere.py RUNTIME BENCH MODULE:FUNCTION JOB BEGUN, the first two being the rooms' folders.
"""

import importlib.util
import sys
import types
from pathlib import Path


def lend(**rooms: str) -> None:
    """Make pleinair.NAME importable from a room's folder, and nothing else that lies beside it."""
    sys.path.pop(0)  # this file's folder, whose modules are not to be imported as `process` and so
    package = types.ModuleType("pleinair")
    package.__path__ = []
    sys.modules["pleinair"] = package
    for name, folder in rooms.items():
        spec = importlib.util.spec_from_file_location(
            f"pleinair.{name}",
            Path(folder) / "__init__.py",
            submodule_search_locations=[folder],
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        setattr(package, name, module)
        spec.loader.exec_module(module)


if __name__ == "__main__":
    runtime, bench, *job = sys.argv[1:]
    lend(runtime=runtime, bench=bench)
    from pleinair.bench.worker import main

    sys.exit(main(*job))
