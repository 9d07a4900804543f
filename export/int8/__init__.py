"""Graphs in 8-bit integers, made from those of an exported folder: no torch, no checkpoint."""
