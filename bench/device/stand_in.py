"""The CPU in a GPU's place: ONNX Runtime with a CUDA provider that computes on the CPU.

For trying out, on a machine without a GPU, everything but the GPU itself. CUDA_VISIBLE_DEVICES set
to nothing takes the GPU away, as it does with a real one; `full` leaves it no memory.
"""

import os
from typing import Any

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
full = False
_FULL = "bfc_arena.cc:376 AllocateRawInternal Failed to allocate memory for requested buffer"


def install() -> None:
    """Put it in place of ONNX Runtime's own, in this process, once."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_inference_collection import IOBinding, OrtValue

    if onnxruntime.InferenceSession.__module__ == __name__:
        return

    class Session(onnxruntime.InferenceSession):
        """A session that says it runs on CUDA."""

        def __init__(
            self, model: Any, sess_options: Any = None, providers: Any = None, **more: Any
        ) -> None:
            names = [one if isinstance(one, str) else one[0] for one in providers or ()]
            self._on_cuda = _CUDA in names and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
            super().__init__(model, sess_options, [_CPU], **more)

        def get_providers(self) -> list[str]:
            return [_CUDA, _CPU] if self._on_cuda else [_CPU]

        def run_with_iobinding(self, *arguments: Any, **more: Any) -> Any:
            if full and "timestep" in {port.name for port in self.get_inputs()}:
                raise RuntimeError(_FULL)
            return super().run_with_iobinding(*arguments, **more)

    bind, value = IOBinding.bind_output, OrtValue.ortvalue_from_numpy
    IOBinding.bind_output = lambda self, name, *_: bind(self, name)
    OrtValue.ortvalue_from_numpy = staticmethod(lambda array, *_: value(array))
    onnxruntime.InferenceSession = Session
    onnxruntime.get_available_providers = lambda: [_CUDA, _CPU]
