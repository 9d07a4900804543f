"""Files that are no checkpoint to convert: what they are, by the names of their tensors."""

import re

from .reading import State

_LORA = "a LoRA, not a whole checkpoint; merge it with --lora, or paint with it: pleinair --lora"
_VAE = "a VAE, not a whole checkpoint; add it with --vae"
_CONTROLNET = "a ControlNet; export its diffusers folder or hub id instead"
_ELSEWHERE = "which Pleinair does not paint with; it paints with Stable Diffusion 1, 2, XL and 3"
_UNCLIP = f"Stable Diffusion 2 unCLIP, which is shown a picture's CLIP embedding, {_ELSEWHERE}"

# The first that fits any tensor's name is what the file is.
_WHOLE = {
    r"(model\.diffusion_model\.)?joint_blocks\.": (
        "Stable Diffusion 3 in one file; export its diffusers folder or hub id instead"
    ),
    r"(model\.diffusion_model\.)?double_blocks\.\d+\.(img|txt)_attn": f"FLUX, {_ELSEWHERE}",
    r"clip_txt_mapper\.|effnet_mapper\.|down_blocks\.\d+\.\d+\.channelwise": (
        f"Stable Cascade, {_ELSEWHERE}"
    ),
    r"(model\.diffusion_model\.)?double_layers\.": f"AuraFlow, {_ELSEWHERE}",
    r".*\b(time_stack|time_mixer)\.": f"Stable Video Diffusion, {_ELSEWHERE}",
    r".*\bmotion_modules\.": "an AnimateDiff motion module, which Pleinair does not read",
    r"noise_augmentor\.|embedder\.model\.visual\.": _UNCLIP,
    r"depth_model\.": f"Stable Diffusion 2 depth, which is shown a depth map, {_ELSEWHERE}",
    r"control_model\.|controlnet_(cond_embedding|down_blocks)|(input_hint_block|zero_convs)\.": (
        _CONTROLNET
    ),
}
_ALONE = {
    r"lora_|.*\.(lora_(up|down|A|B)\b|hada_w|lokr_w|oft_|lora\.)|.*\.diff(_b)?$": _LORA,
    r"(first_stage_model|vae)\.|(en|de)coder\.(down|up|mid|conv_in)|(post_)?quant_conv\.": _VAE,
    r"(ip_adapter|image_proj)\.": "an IP-Adapter, which Pleinair does not read",
    r"(adapter\.)?body\.\d+\.(block|resnets)": "a T2I-Adapter, which Pleinair does not read",
    r"(model\.\d+\.sub|body\.\d+\.rdb|conv_body)": "an upscaler of pixels (ESRGAN), which Pleinair "
    "does not read; enlarge with: pleinair --enlarge 4",
    r"emb_params$|string_to_param|clip_[lg]$|<.*>$": (
        "a textual inversion embedding, not a checkpoint; paint with it: pleinair --embedding"
    ),
    r"(diffusion_model\.)?input_blocks\.|down_blocks\.\d+\.(resnets|attentions)\.": (
        "a UNet alone without the names of a whole checkpoint; export the folder or the file with "
        "text encoder and VAE that it belongs to"
    ),
    r"(text_model\.encoder|encoder\.layers|transformer\.resblocks)\.": (
        "a text encoder, not a whole checkpoint; add it with --text-encoder"
    ),
    r"(encoder\.block\.\d+\.layer|shared\.weight)": "a T5 text encoder, not a whole checkpoint",
}


def named(state: State, whole: bool) -> str | None:
    """What a file is that cannot be converted; None where nothing is known against it.

    whole: it has the UNet of a whole checkpoint, under its original names.
    """
    for marks in (_WHOLE,) if whole else (_WHOLE, _ALONE):
        for mark, what in marks.items():
            if any(re.match(mark, key) for key in state):
                return what
    labels = [key for key in state if key.startswith("model.diffusion_model.label_emb.0.0.")]
    if labels and any(key.startswith("cond_stage_model.") for key in state):
        return _UNCLIP
    return None
