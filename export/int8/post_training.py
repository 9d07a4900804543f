"""NNCF's post-training quantization of a graph, in OpenVINO's or ONNX's form: the same calls.

Activations get 8 bits, asymmetric, a tensor at a time; weights 8 bits, symmetric, a channel at a
time. Ranges reach from the least to the largest value of all samples: what a UNet computes grows
and shrinks with the timestep, and NNCF's own choice, the mean of the samples' ranges, clips some
timesteps in every layer. SmoothQuant moves what sticks out of activations into the weights before
a matrix product [Xiao et al. 2023, eq. 4]; the biases take back what rounding shifts on average.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pleinair.runtime.engines.protocol import first_line
from pleinair.runtime.errors import ExportError, PleinairError, to_install

Inputs = Mapping[str, Any]

# How much of what sticks out SmoothQuant moves: alpha in its eq. 4. NNCF's own 0.95, made for
# language models, leaves a UNet's weights with so wide a range that they lose more than is gained.
SMOOTHING = 0.15


@dataclass(frozen=True)
class Calibration:
    """Inputs of a graph, as the graph takes them. `tell` is called as each is used."""

    inputs: Sequence[Inputs]
    tell: Callable[[], None]

    def __len__(self) -> int:
        return len(self.inputs)

    def __iter__(self) -> Iterator[Inputs]:
        for one in self.inputs:
            yield one
            self.tell()


def quantize(
    model: Any,
    calibration: Calibration,
    ignored: Iterable[str],
    weights: Path | None = None,
    quick: bool = False,
) -> Any:
    """The model with 8-bit weights and activations.

    ignored: operations that stay in floating point.
    weights: the folder of an ONNX model's, where they are not in it.
    quick: leave out SmoothQuant and the correction of biases; to compare layers that is enough.
    Raises ExportError where NNCF is not installed or fails.
    """
    nncf = load()
    from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    advanced = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=-1 if quick else SMOOTHING),
        disable_bias_correction=quick,
        backend_params=_elsewhere(weights),
    )
    with _quietly():
        return nncf.quantize(
            model,
            nncf.Dataset(calibration),
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=sorted(ignored), validate=False),
            advanced_parameters=advanced,
        )


def compress_weights(model: Any, ignored: Iterable[str], weights: Path | None = None) -> Any:
    """The model with 8-bit weights alone, asymmetric; it computes in floating point.

    ignored, weights, errors: as for `quantize`.
    """
    nncf = load()
    advanced = nncf.AdvancedCompressionParameters(backend_params=_elsewhere(weights))
    with _quietly():
        return nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT8_ASYM,
            ignored_scope=nncf.IgnoredScope(names=sorted(ignored), validate=False),
            advanced_parameters=advanced,
        )


def load() -> Any:
    """NNCF; it would report its use to its makers, so it is told that nobody is there to ask."""
    os.environ.setdefault("NNCF_CI", "1")
    try:
        import nncf
    except ImportError as error:
        raise ExportError(
            f"NNCF is not installed ({error}); install it with: {to_install('int8')}"
        ) from None
    return nncf


def _elsewhere(weights: Path | None) -> dict[str, str]:
    return {} if weights is None else {"external_data_dir": str(weights.resolve())}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without NNCF's own bars and remarks; what it fails with becomes one line."""
    import nncf
    from nncf.common.logging import nncf_logger
    from rich import get_console

    console, level = get_console(), nncf_logger.level
    quiet, console.quiet = console.quiet, True
    nncf_logger.setLevel("ERROR")
    try:
        yield
    except PleinairError:
        raise
    except Exception as error:  # its errors, OpenVINO's and ONNX's share no base class
        version = getattr(nncf, "__version__", "")
        raise ExportError(f"NNCF {version} cannot quantize it: {first_line(error)}") from error
    finally:
        console.quiet = quiet
        nncf_logger.setLevel(level)
