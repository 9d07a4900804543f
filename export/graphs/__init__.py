"""The graphs that are traced: one file a network, and what they have in common in graph.py.

Each network is wrapped in a small module whose `forward` takes and returns plain tensors, the way
an engine will call it; the names of a graph's ends are optimum's. The example inputs are chosen so
that tracing takes the general branch: latents of an odd size make a UNet compute every upsampling
size from the skip connection it must match, so the traced graph works for all sizes, while an even
example would freeze "times two".
"""
