"""What diffusers' scripts say that is said otherwise here: one table, for errors and for docs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import SettingError


@dataclass(frozen=True)
class Otherwise:
    """A name of diffusers that is not taken here.

    here: what to do instead. same: values, as `str` writes them, that ask for what is done here
        anyway, and so are taken. whose: whose name it is, where it is another's.
    """

    here: str
    same: tuple[str, ...] = ()
    whose: str = "diffusers' name"


class MigrationError(SettingError, AttributeError):
    """A name of diffusers that is another one here; the message says which."""


def _each(names: str, here: str, *same: str) -> dict[str, Otherwise]:
    return dict.fromkeys(names.split(), Otherwise(here, same))


_ONE_PROMPT = "give prompt and negative_prompt: every text encoder of the model reads them"
_TEXTS = "give prompt and negative_prompt as text; weights are written into it, (word:1.3)"
_LORAS = 'open the model with them: from_pretrained(folder, loras=["FILE:0.8"])'
_NO_IP_ADAPTER = "IP-Adapters cannot be used; a ControlNet follows a picture, with controlnet"
_LAYERS = "layers are not skipped for guidance; leave it out"
_FETCH = "leave it out: models are fetched beforehand, by pleinair pull"
_MEMORY = 'give from_pretrained max_memory="2GB", which loads parts of the model when they work'
_FOLDER = "parts of a model come from its folder; exchange them with pleinair-export"
_SAFETY = 'give the call safety="on", "blur" or "off"'
_ENGINE = "give from_pretrained engine, device, threads and precision"
_GRAPH = "parts of a model are graphs in its folder, pipe.bundle.path, and no modules"
_PRECISION = 'give from_pretrained precision: auto, f32, bf16 or f16; profile="balanced" is 8 bits'
_ATTENTION = "the engine chooses how attention is computed; leave it out"
_STEPS = "a call is one call; callback_on_step_end sees every step, and ends it by returning False"

CALL: Mapping[str, Otherwise] = {
    **_each("generator", "give seed, a whole number; of torch's that is generator.initial_seed()"),
    **_each("sigmas", "give scheduler and num_inference_steps, which make them, or timesteps"),
    **_each("mu", "the model's scheduler_config.json says how its timesteps are shifted"),
    **_each("prompt_2 prompt_3 negative_prompt_2 negative_prompt_3", _ONE_PROMPT),
    **_each(
        "prompt_embeds negative_prompt_embeds pooled_prompt_embeds negative_pooled_prompt_embeds",
        _TEXTS,
    ),
    **_each("ip_adapter_image ip_adapter_image_embeds", _NO_IP_ADAPTER),
    **_each("cross_attention_kwargs joint_attention_kwargs", _LORAS),
    **_each(
        "skip_guidance_layers skip_layer_guidance_scale skip_layer_guidance_start "
        "skip_layer_guidance_stop",
        _LAYERS,
    ),
    **_each("return_dict", "take the pictures from what a call returns, by out.images", "True"),
    **_each(
        "callback_on_step_end_tensor_inputs",
        "leave it out: callback_on_step_end always gets latents, pred_original_sample and image",
        "['latents']",
        "('latents',)",
    ),
    **_each("callback callback_steps", "give callback_on_step_end, called after every step"),
    **_each("masked_image_latents", "give image and mask_image"),
    **_each("padding_mask_crop", "give image and mask_image cut to the part to be painted"),
    **_each("original_inference_steps", "set it in the model's scheduler/scheduler_config.json"),
    **_each("init_image", "give image"),
    **_each("safety_checker", _SAFETY),
}
"""Arguments of a call."""

OPENING: Mapping[str, Otherwise] = {
    **_each("torch_dtype dtype", _PRECISION, "auto"),
    **_each("variant", _PRECISION),
    **_each("quantization_config load_in_8bit", _PRECISION),
    **_each("use_safetensors", "folders here hold graphs, which run no code", "True"),
    **_each("custom_pipeline custom_revision trust_remote_code", "no model's code is run", "False"),
    **_each("local_files_only", _FETCH, "True"),
    **_each("revision token use_auth_token proxies mirror force_download resume_download", _FETCH),
    **_each("device_map", "give device"),
    **_each("low_cpu_mem_usage disable_mmap use_flashpack", _MEMORY, "True", "False"),
    **_each("offload_folder offload_state_dict", _MEMORY),
    **_each("safety_checker feature_extractor", _SAFETY),
    **_each("requires_safety_checker", _SAFETY, "True", "False"),
    **_each("scheduler", "give the call scheduler, a name out of schedulers.names()"),
    **_each("vae unet transformer text_encoder text_encoder_2 text_encoder_3", _FOLDER),
    **_each("tokenizer_2 tokenizer_3 image_encoder load_connected_pipeline", _FOLDER),
    **_each("provider sess_options provider_options use_onnx ov_config compile", _ENGINE),
    **_each("export", "convert a checkpoint once, with pleinair-export", "False"),
}
"""Arguments of from_pretrained."""

EARLIER: Mapping[str, Otherwise] = {
    "inference_precision": Otherwise("give precision", whose="an earlier version's name"),
}
"""Arguments of from_pretrained that it had itself."""

ATTRIBUTES: Mapping[str, Otherwise] = {
    **_each("scheduler", "give the call scheduler, a name out of schedulers.names()"),
    **_each("load_lora_weights set_adapters get_active_adapters get_list_adapters", _LORAS),
    **_each("fuse_lora unfuse_lora enable_lora disable_lora unload_lora_weights", _LORAS),
    **_each("delete_adapters enable_lora_hotswap set_lora_device save_lora_weights", _LORAS),
    **_each("fused_loras num_fused_loras lora_scale", _LORAS),
    **_each(
        "load_textual_inversion unload_textual_inversion",
        'open the model with them: from_pretrained(folder, embeddings=["FILE:word"])',
    ),
    **_each(
        "load_ip_adapter set_ip_adapter_scale unload_ip_adapter is_ip_adapter_active",
        _NO_IP_ADAPTER,
    ),
    **_each("enable_attention_slicing set_attention_slice", _MEMORY),
    **_each("enable_model_cpu_offload enable_sequential_cpu_offload enable_group_offload", _MEMORY),
    **_each(
        "enable_xformers_memory_efficient_attention "
        "set_use_memory_efficient_attention_xformers fuse_qkv_projections unfuse_qkv_projections",
        _ATTENTION,
    ),
    **_each("enable_vae_tiling disable_vae_tiling", 'give the call vae_tiling="on" or "off"'),
    **_each("enable_freeu", "FreeU is not computed; leave it out"),
    **_each("safety_checker run_safety_checker requires_safety_checker", _SAFETY),
    **_each("unet transformer vae text_encoder text_encoder_2 text_encoder_3", _GRAPH),
    **_each("tokenizer_2 tokenizer_3 components image_encoder controlnet", _GRAPH),
    **_each("feature_extractor image_processor low_res_scheduler", _GRAPH),
    **_each("config name_or_path", "read pipe.bundle.index and pipe.bundle.path"),
    **_each("device dtype hf_device_map", "read pipe.engine.device"),
    **_each("reset_device_map half float cpu cuda", _ENGINE),
    **_each("progress_bar", "give the call callback_on_stage, which hears of every stage"),
    **_each("encode_prompt prompt_embeds", _TEXTS),
    **_each("decode_latents", "call pipe.preview(latents)"),
    **_each("prepare_latents", "call pipe.start_noise(seed), and give the call latents"),
    **_each("check_inputs", "call pipe.plan, which takes what a call takes and paints nothing"),
    **_each("interrupt guidance_scale guidance_rescale num_timesteps clip_skip", _STEPS),
    **_each("do_classifier_free_guidance cross_attention_kwargs", _STEPS),
    **_each("reshape compile", "call pipe.warm_up, with the sizes that will be painted"),
    **_each("save_pretrained push_to_hub", "copy the model's folder, pipe.bundle.path"),
    **_each("from_pipe", "one pipeline does all: give the call image, or image and mask_image"),
    **_each("from_single_file", "convert the file with pleinair-export FILE, and open that folder"),
    **_each("from_config load_config", "open a folder with from_pretrained"),
    **_each("download", "fetch a model with pleinair pull NAME"),
}
"""Methods and attributes of a pipeline, and of its class."""

NOTHING: Mapping[str, str] = {
    "set_progress_bar_config": "no bar is shown; callback_on_stage hears of every stage",
    "enable_vae_slicing": "pictures are decoded one by one",
    "disable_vae_slicing": "pictures are decoded one by one",
    "disable_attention_slicing": "attention is not sliced",
    "disable_xformers_memory_efficient_attention": "there is no xformers",
    "disable_freeu": "there is no FreeU",
    "maybe_free_model_hooks": "there are no hooks",
    "remove_all_hooks": "there are no hooks",
}
"""Methods that are taken and do nothing, because it is so anyway."""

PIPELINES = frozenset(
    {
        "DiffusionPipeline",
        "AutoPipelineForText2Image",
        "AutoPipelineForImage2Image",
        "AutoPipelineForInpainting",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionUpscalePipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    }
)
"""Classes of pipelines: `Pipeline` goes by each of these names, and opens a model of any kind."""

CLASSES: Mapping[str, Otherwise] = {
    **_each(
        "ControlNetModel", "convert it with pleinair-export; from_pretrained(…, controlnet=FOLDER)"
    ),
    **_each("AutoencoderKL AutoencoderTiny UNet2DConditionModel SD3Transformer2DModel", _FOLDER),
    **_each("StableDiffusionSafetyChecker", _SAFETY),
}
"""Other classes; those that end in Scheduler are named in the call."""

_SCHEDULERS = Otherwise("give the call scheduler, a name out of schedulers.names()")


def taken(arguments: Mapping[str, Any], table: Mapping[str, Otherwise]) -> dict[str, Any]:
    """The arguments without those of diffusers that change nothing here.

    None is not given. Raises MigrationError for those that would.
    """
    for name in arguments.keys() & table.keys():
        value, otherwise = arguments[name], table[name]
        if value is not None and str(value) not in otherwise.same:
            raise _error(name, otherwise)
    return {name: value for name, value in arguments.items() if name not in table}


def class_line(name: str) -> str | None:
    """What to do instead of importing a class of diffusers; None for names that are none."""
    found = CLASSES.get(name) or (_SCHEDULERS if name.endswith("Scheduler") else None)
    return str(_error(name, found)) if found else None


class Named(type):
    """Of a class whose attributes go by this table: `from_single_file` says what it is here."""

    if not TYPE_CHECKING:  # else no attribute would be unknown

        def __getattr__(cls, name: str) -> Any:
            return missing(cls, name)


def missing(thing: Any, name: str) -> Callable[..., None]:
    """As `__getattr__`: what an attribute of diffusers' pipelines does here, or an error."""
    if name in NOTHING:
        return lambda *_, **__: None
    if name in ATTRIBUTES:
        raise _error(name, ATTRIBUTES[name])
    kind = thing if isinstance(thing, type) else type(thing)
    raise AttributeError(f"{kind.__name__} has no attribute {name!r}", name=name, obj=thing)


def assigned(thing: Any, name: str, value: Any) -> None:
    """As `__setattr__`: an attribute that would change nothing here is an error."""
    if name in ATTRIBUTES:
        raise _error(name, ATTRIBUTES[name])
    object.__setattr__(thing, name, value)


def _error(name: str, otherwise: Otherwise) -> MigrationError:
    return MigrationError(f"{name} is {otherwise.whose} and is not taken here: {otherwise.here}")
