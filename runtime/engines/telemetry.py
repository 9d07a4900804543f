"""No reports to Intel: our users were not asked.

OpenVINO's Python package and NNCF tell that they were imported, and of each conversion its
arguments, each by a process of its own.
"""

import sys

_REPORTER = "openvino_telemetry"


def switch_off() -> None:
    """Let this process find no openvino_telemetry: OpenVINO and NNCF then use their silent stubs.

    Call it before `import openvino`. Where somebody has imported the package already, nothing
    changes: the process is theirs.
    """
    sys.modules.setdefault(_REPORTER, None)  # type: ignore[arg-type]
