"""What NNCF looks at in a graph of OpenVINO's, computed piece by piece.

NNCF compiles all of a graph with a result for each feature map that is to be quantized. OpenVINO
computes those results last, and keeps every feature map for them: 8 GB of Stable Diffusion's UNet
at 512x512, beside its weights as float32. In pieces neither is there at once.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import ir_pieces
from .post_training import Inputs, load

# Samples that go through a piece before the next is compiled. More of them compile less often, and
# leave more on the disk: of a decoder at 512x512 half a gigabyte each.
TOGETHER = 8


@contextlib.contextmanager
def statistics_in_pieces(samples: Sequence[Inputs], aside: Path) -> Iterator[None]:
    """Let NNCF run the graph that takes these samples so; what it asks of others stays as it is.

    NNCF names no engine that could be chosen, so its own one is exchanged inside the block.
    aside: a folder for what goes from piece to piece.
    """
    load()
    from nncf.openvino import engine

    names = samples[0].keys()

    class InPieces(engine.OVNativeEngine):
        def __init__(self, model: Any, *arguments: Any, **settings: Any) -> None:
            self.outputs: Iterator[Inputs] | None = None
            if {port.get_any_name() for port in model.inputs} == names:
                self.outputs = self._outputs(model)
            else:
                super().__init__(model, *arguments, **settings)

        def infer(self, input_data: Any) -> Any:
            if self.outputs is None:
                return super().infer(input_data)
            return next(self.outputs)

        def _outputs(self, model: Any) -> Iterator[Inputs]:
            for begin in range(0, len(samples), TOGETHER):
                some = samples[begin : begin + TOGETHER]
                with tempfile.TemporaryDirectory(prefix="passed-", dir=aside) as folder:
                    passed = Path(folder)
                    yield from ir_pieces.run(model.clone, some, watched=True, aside=passed)

    theirs = engine.OVNativeEngine
    engine.OVNativeEngine = InPieces
    try:
        yield
    finally:
        engine.OVNativeEngine = theirs
