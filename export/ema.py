"""Running averages of a UNet's weights, which training saved under names without their dots.

`model.diffusion_model.input_blocks.1.0.in_layers.0.weight` has its average in
`model_ema.diffusion_modelinput_blocks10in_layers0weight` (CompVis's LitEma).
"""

import re

from .families.original import UNET
from .reading import State

_PREFIX = "model_ema.diffusion_model"
_WORDS = re.compile(
    r"input_blocks|output_blocks|middle_block|transformer_blocks|time_embed|label_emb|"
    r"in_layers|out_layers|emb_layers|skip_connection|proj_in|proj_out|proj|attn[12]|norm[123]?|"
    r"to_[qkv]|to_out|ff|net|conv|op|out|weight|bias|\d+"
)
# After these come two numbers; the second, a place in a block or layer, is one digit.
_TWO_NUMBERS = {"input_blocks", "output_blocks", "label_emb"}


def unet(state: State) -> State:
    """Return the averages in `state` under the names of the weights; {} where there are none."""
    return {
        UNET + dotted(key.removeprefix(_PREFIX)): value
        for key, value in state.items()
        if key.startswith(_PREFIX)
    }


def dotted(name: str) -> str:
    """Put the dots back: `input_blocks10in_layers0weight` is `input_blocks.1.0.in_layers.0.weight`.

    A name of other words than CompVis's UNet has comes back as it is.
    """
    words = _WORDS.findall(name)
    if "".join(words) != name:
        return name
    parts: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if before in _TWO_NUMBERS and len(word) > 1 and word.isdigit():
            parts += [word[:-1], word[-1]]
        else:
            parts.append(word)
    return ".".join(parts)
