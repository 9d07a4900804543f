"""What is painted to calibrate: plain words that every CLIP knows, of many kinds of picture."""

from collections.abc import Sequence
from pathlib import Path

from pleinair.runtime.errors import PromptError

PROMPTS = (
    "a photo of a red apple on a white table",
    "a portrait of an old man with a long beard, oil painting",
    "a small house by a lake, mountains in the background",
    "a black cat sleeping on a blue chair",
    "a busy street in a city at night, neon lights",
    "a bowl of soup with bread, food photography",
    "a cartoon drawing of a smiling robot",
    "a sailing boat in a storm, big waves",
    "a woman in a green dress walking in a garden, watercolor",
    "a white horse running on a beach at sunset",
    "a close-up of a yellow flower with a bee",
    "a wooden cabin in a snowy forest",
    "an astronaut riding a bicycle on the moon",
    "three cups of coffee on a gray desk, top view",
    "an abstract pattern of circles and lines, bright colors",
    "a train crossing a stone bridge, black and white photo",
    "a child playing with a dog in the park",
    "a castle on a hill under a full moon, fantasy art",
    "a pair of old leather shoes on a wooden floor",
    "a bird on a branch, cherry blossoms, japanese print",
)


def read(file: str | Path) -> list[str]:
    """The prompts in a text file, one a line; empty lines are left out.

    Raises PromptError where there are none to read.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(
            f"{file}: not a readable text file ({error}); one prompt a line"
        ) from error
    return checked([line.strip() for line in lines if line.strip()], str(file))


def checked(prompts: Sequence[str], origin: str = "prompts") -> list[str]:
    """The prompts, if there are any."""
    if not prompts:
        raise PromptError(f"{origin}: holds no prompts; give one a line")
    return list(prompts)
