"""What people add to a model: LoRA files and textual inversion embeddings, without torch.

A file is read (`safetensors.py`, `pickles.py`), understood (`lora.py`, `inversion.py`) and becomes
`Changes`: for each weight, by the name that PyTorch knows it by, a function from old to new. They
are applied to a graph before it is compiled (`openvino_model.py`, `onnx_graph.py`), or to a
PyTorch module when it is exported (`export/lora.py`). `residuals.py` adds to a UNet the inputs that
ControlNets need, `deep_features.py` cuts one in two, both where `joins.py` finds skip connections.
"""
