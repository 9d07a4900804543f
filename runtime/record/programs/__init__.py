"""The programs whose pictures are read, a file each, and the order in which they are asked."""

from collections.abc import Callable, Mapping

from . import (
    comfyui,
    demo,
    fooocus,
    invokeai,
    novelai,
    plain_json,
    pleinair,
    swarmui,
    webui,
)
from .said import Said

Reader = Callable[[Mapping[str, str]], Said | None]
"""What a program's texts say; None where they are not its own. SettingError: damaged."""

# webui's text comes before ComfyUI's graph: nodes that save pictures write both.
READERS: Mapping[str, Reader] = {
    "Pleinair": pleinair.read,
    "SwarmUI": swarmui.read,
    "InvokeAI": invokeai.read,
    "NovelAI": novelai.read,
    "Fooocus": fooocus.read,
    "ComfyUI's file": comfyui.read_saved,
    "JSON": plain_json.read,
    "webui": webui.read,
    "ComfyUI": comfyui.read,
    "stable_diffusion.openvino": demo.read,
}
