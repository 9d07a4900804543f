"""AUTOMATIC1111's webui, Forge and all that write its text: `parameters`, or EXIF's UserComment."""

from collections.abc import Mapping

from .. import infotext
from ..texts import MAIN
from .said import Said, looks_like_json


def read(texts: Mapping[str, str]) -> Said | None:
    text = texts.get(MAIN, "")
    if not text.strip() or looks_like_json(text):
        return None
    said = Said(*infotext.read(text))
    if "postprocessing" in texts:
        said.ignored.append("postprocessing")
    return said
