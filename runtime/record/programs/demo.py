"""bes-dev's `demo.py` of stable_diffusion.openvino: a text an argument, or all as JSON in EXIF."""

from collections.abc import Mapping

from .said import Said, objects

_PREFIX = "stable_diffusion_"
_SOFTWARE = "stable_diffusion.openvino"
# It paints text with LMS, pictures with PLMS, at one size, and says none of it.
_UNSAID = {"scheduler": "lms", "width": 512, "height": 512}
# An earlier version has the bare names of a few arguments.
_BARE = {
    "prompt": "prompt",
    "seed": "seed",
    "num-inference-steps": "num_inference_steps",
    "guidancescale": "guidance_scale",
}


def read(texts: Mapping[str, str]) -> Said | None:
    stated: Mapping[str, object] = next(objects(texts, _SOFTWARE), texts)
    settings = {
        name.removeprefix(_PREFIX): value
        for name, value in stated.items()
        if name.startswith(_PREFIX)
    }
    if not settings and texts.get("tool", "").startswith("stable diffusion openvino"):
        settings = {ours: texts[theirs] for theirs, ours in _BARE.items() if theirs in texts}
    if not settings:
        return None
    solver = {"scheduler": "plms"} if "init_image" in settings else {}
    return Said({**_UNSAID, **settings, **solver})
