"""OpenAI's images API, with the fields that OpenVINO Model Server takes beside its own."""

from .endpoints import router

__all__ = ["router"]
