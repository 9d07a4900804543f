"""Pleinair: Stable Diffusion on the CPU you already have; what paints is `pleinair.runtime`."""

from pleinair.runtime import __version__

__all__ = ["__version__"]
