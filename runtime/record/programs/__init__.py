"""The programs whose pictures are read, a file each, and the order in which they are asked."""

from collections.abc import Callable, Mapping, Sequence

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
READERS: Sequence[Reader] = (
    pleinair.read,
    swarmui.read,
    invokeai.read,
    novelai.read,
    fooocus.read,
    comfyui.read_saved,
    plain_json.read,
    webui.read,
    comfyui.read,
    demo.read,
)
