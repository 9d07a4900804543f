"""What people add to a model: LoRA files and textual inversion embeddings, without torch.

A file is read (`content.py`), understood (`lora.py`, `inversion.py`) and becomes `Changes`
(`fitting.py`): for each weight, by the name that PyTorch knows it by, a function from old to new.
They are applied to a graph before it is compiled (`graphs/weights.py`), or to a PyTorch module when
it is exported (`export/lora.py`).
"""

from ..graphs import openvino_weights as openvino_model

__all__ = ["openvino_model"]  # the name that scripts have from the first edition
