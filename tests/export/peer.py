"""What optimum does with a folder; run by optimum's own Python, which need not have pleinair.

python peer.py paint-openvino|paint-onnx FOLDER PICTURE.npy PROMPT HEIGHT WIDTH
python peer.py export-openvino|export-onnx CHECKPOINT FOLDER
"""

import subprocess
import sys
from pathlib import Path


def paint(engine: str, folder: str, picture: str, prompt: str, height: str, width: str) -> None:
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
        height=int(height),
        width=int(width),
        num_inference_steps=3,
        guidance_scale=7.5,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    ).images
    np.save(picture, images[0])


def export(engine: str, checkpoint: str, folder: str) -> None:
    # The command, not a function of it: that is what a user types.
    command = Path(sys.executable).with_name("optimum-cli")
    options = ["--task", "text-to-image", "--model", checkpoint, folder]
    if engine == "openvino":
        options += ["--weight-format", "fp32"]
    subprocess.run([str(command), "export", engine, *options], check=True)


if __name__ == "__main__":
    action, engine = sys.argv[1].split("-")
    {"paint": paint, "export": export}[action](engine, *sys.argv[2:])
