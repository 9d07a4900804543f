"""openvino-genai opens and paints with a folder exported here."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def pipeline(exported_openvino: Path) -> object:
    openvino_genai = pytest.importorskip("openvino_genai", reason="needs openvino-genai")
    return openvino_genai.Text2ImagePipeline(str(exported_openvino), "CPU")


def _paint(pipeline: object, prompt: str, width: int, height: int, **options: float) -> np.ndarray:
    made = pipeline.generate(  # type: ignore[attr-defined]
        prompt, width=width, height=height, num_inference_steps=2, rng_seed=3, **options
    )
    return np.array(made.data)[0]


def test_it_paints_what_the_prompt_says(pipeline: object) -> None:
    apple = _paint(pipeline, "a red apple", 64, 64)
    assert apple.shape == (64, 64, 3)
    assert apple.std() > 5, "not one flat colour"
    np.testing.assert_array_equal(apple, _paint(pipeline, "a red apple", 64, 64))
    assert (apple != _paint(pipeline, "a blue boat", 64, 64)).any()


def test_it_paints_other_sizes(pipeline: object) -> None:
    assert _paint(pipeline, "a cat", 72, 104, guidance_scale=7.5).shape == (104, 72, 3)
