"""Edits to a graph before it is compiled, each for OpenVINO and for ONNX.

`weights.py` changes weights, `residuals.py` adds the inputs that ControlNets need, `cut.py` cuts a
UNet in two, `shared_rows.py` computes once what the rows of a batch share, `half_precision.py`
computes a denoiser in float16.
"""
