"""What was typed for a picture: options and the prompt, with the defaults of files beneath."""

import argparse
from collections.abc import Sequence

from ..errors import Argument, Message, SettingError, shown
from ..exits import tell
from ..options.groups import DEFAULT_PROMPT
from .arguments import parser


def command(words: Sequence[str]) -> int:
    """`pleinair paint`, or `pleinair` alone: read the options, then paint."""
    options = options_of(words)
    from .paint import paint

    if not words:
        tell(
            f'painting "{DEFAULT_PROMPT}", for want of a prompt; for one of yours: '
            'pleinair "a rocket, noto style"'
        )
        tell("what else there is: pleinair --help; the known models: pleinair models")
    try:
        return paint(options)
    except MemoryError as error:
        raise SettingError(
            Message(
                "not enough memory; give a smaller {width} and {height}, {tile} to paint in "
                "parts, or {max_memory} to keep fewer of the model's parts"
            )
        ) from error


def options_of(words: Sequence[str]) -> argparse.Namespace:
    """What the words ask for, with the defaults of files and environment.

    Words that belong to no option are the prompt; behind -- all of them are.
    Raises SettingError for an option that there is not, and for a prompt given twice.
    """
    made = parser()
    end = words.index("--") if "--" in words else len(words)
    typed, left = made.given(words[:end])
    for word in left:
        if word.startswith("-") and word != "-":
            raise made.unknown(word)
    if left or words[end + 1 :]:
        for other in ("prompt", "from_file"):
            if other in typed:
                raise SettingError(
                    Message(
                        "{0!r} would be the prompt, and there is {1}; quote what belongs "
                        "together, or leave one out",
                        shown(" ".join([*left, *words[end + 1 :]])),
                        Argument(other),
                    )
                )
        typed["prompt"] = " ".join([*left, *words[end + 1 :]])
    from ..request import RANDOM
    from . import config

    options = argparse.Namespace(
        **{**made.defaults(), **config.defaults(made, typed), **typed},
        # No options: --params-from fills them in.
        noise_seed=None,
        machine_restored=False,
    )
    if options.seed == RANDOM:
        options.seed = None
    return options
