"""What optimum does with folders; run by optimum's own Python, which need not have pleinair.

A line of its input is what to do, as JSON: ["paint", ENGINE, FOLDER, PICTURE.npy, PROMPT, HEIGHT,
WIDTH] or ["export", ENGINE, CHECKPOINT, FOLDER], with "openvino" or "onnx" for the engine. A line
of its output is the answer, as JSON: "", or what went wrong.
"""

import json
import os
import sys
import traceback
from unittest import mock


def paint(engine: str, folder: str, picture: str, prompt: str, height: int, width: int) -> None:
    import numpy as np
    import torch

    if engine == "openvino":
        from optimum.intel import OVPipelineForText2Image

        pipe = OVPipelineForText2Image.from_pretrained(
            folder, ov_config={"INFERENCE_PRECISION_HINT": "f32"}
        )
    else:
        from optimum.onnxruntime import ORTPipelineForText2Image

        pipe = ORTPipelineForText2Image.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        prompt,
        height=height,
        width=width,
        num_inference_steps=3,
        guidance_scale=7.5,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    ).images
    np.save(picture, images[0])


def export(engine: str, checkpoint: str, folder: str) -> None:
    from optimum.commands import optimum_cli

    # The command, not a function below it: that is what a user types.
    command = ["optimum-cli", "export", engine, "--task", "text-to-image", "--model", checkpoint]
    if engine == "openvino":
        command += ["--weight-format", "fp32"]
    with mock.patch.object(sys, "argv", [*command, folder]):
        optimum_cli.main()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        action, *arguments = json.loads(line)
        try:
            {"paint": paint, "export": export}[action](*arguments)
            answer = ""
        except BaseException:
            answer = traceback.format_exc()
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
