"""What a file is that is no LoRA for the model at hand, told by its keys."""

import re
from collections.abc import Iterable

# The first that a key shows; what to do follows where there is something to do.
_SIGNS = {
    r"(double|single)_blocks[._]\d|single_transformer_blocks": "a file for FLUX",
    r"joint_blocks|transformer_blocks[._]\d+[._]attn[._](to_[qkv]|add_)": (
        "a file for Stable Diffusion 3"
    ),
    r"lora_prior_|^prior[._]": "a file for Stable Cascade",
    r"motion_modules?[._]": "a motion module of AnimateDiff",
    r"input_hint_block|zero_convs?|control(net|_model)|controlnet_cond": (
        "a ControlNet; convert it with pleinair-export"
    ),
    r"^(image_proj|ip_adapter)": "an IP-Adapter",
    r"string_to_param|^emb_params$|^clip_[lg]$|^text_encoders_[01]$": (
        "an embedding of textual inversion; give it to --embedding"
    ),
    r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.": (
        "a whole checkpoint; convert it with pleinair-export"
    ),
    r"^(encoder|decoder)\.(conv_in|down|up|mid)": "a VAE",
    r"oft_R|boft_R|vera_lambda|hra_u|ia3_l|lora_embedding": (
        "a PEFT file of a kind that is not understood here; merge it there"
    ),
    r"(?<!\w)blocks[._]\d+[._](self|cross)_attn|lora_unet_blocks_\d": "a file for a video model",
    r"(img|txt)_mlp": "a file for Qwen-Image",
    r"caption_projection|adaln_single": "a file for PixArt",
    r"model[._]layers[._]\d+[._](self_attn|mlp)": "a file for a language model",
    r"^(down_blocks|up_blocks|mid_block|conv_in|time_embedding)\..*\.(weight|bias)$": (
        "a whole UNet; convert its checkpoint with pleinair-export"
    ),
    r"^(text_model|encoder\.layers)\..*\.(weight|bias)$": "a whole text encoder",
}


def recognized(keys: Iterable[str]) -> str:
    """What a file of these keys is, in words; "" where they show nothing."""
    keys = list(keys)
    for sign, what in _SIGNS.items():
        if any(re.search(sign, key) for key in keys):
            return what
    return ""
