"""Samples of what programs write about their pictures, by their published formats."""

import json
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

PICTURE = Image.new("RGB", (64, 64))
BOAT: dict[str, Any] = {
    "prompt": "a boat, 蓝色",
    "negative_prompt": "fog",
    "seed": 4,
    "num_inference_steps": 12,
    "guidance_scale": 6.5,
    "width": 512,
    "height": 768,
}
SIZELESS = {name: BOAT[name] for name in BOAT if name not in ("width", "height")}


def png(path: Path, texts: dict[str, str]) -> Path:
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    PICTURE.save(path, pnginfo=info)
    return path


def comfy_graph(**nodes: Any) -> dict[str, Any]:
    """ComfyUI's first workflow, in its API's form."""
    sampler = {"seed": 4, "steps": 12, "cfg": 6.5, "sampler_name": "dpmpp_2m"}
    sampler |= {"scheduler": "karras", "denoise": 1.0, "model": ["4", 0]}
    sampler |= {"positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    text = "CLIPTextEncode"
    graph = {
        "3": {"class_type": "KSampler", "inputs": sampler},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd\\v1-5.ckpt"}},
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 512, "height": 768, "batch_size": 1},
        },
        "6": {"class_type": text, "inputs": {"text": "a boat, 蓝色", "clip": ["4", 1]}},
        "7": {"class_type": text, "inputs": {"text": "fog", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
    }
    return {**graph, **{name.removeprefix("n"): node for name, node in nodes.items()}}


WEBUI = {"prompt": "a boat, 蓝色", "negative_prompt": "fog"}
FIELDS = "Steps: 12, Sampler: Euler a, {}CFG scale: 6.5, Seed: 4, Size: 512x768"
NOISE = "RNG (webui's numbers are a GPU's unless it says CPU; the picture will be another)"


def infotext(fields: str) -> dict[str, str]:
    return {"parameters": f"a boat, 蓝色\nNegative prompt: fog\n{fields}"}


INVOKE = {
    "app_version": "3.3.0",
    "generation_mode": "txt2img",
    "positive_prompt": "a boat, 蓝色",
    "negative_prompt": "fog",
    "width": 512,
    "height": 768,
    "seed": 4,
    "rand_device": "cpu",
    "cfg_scale": 6.5,
    "steps": 12,
    "scheduler": "dpmpp_2m_k",
    "clip_skip": 1,
    "model": {"model_name": "ink", "base_model": "sd-1", "model_type": "main"},
    "loras": [{"lora": {"model_name": "wash", "base_model": "sd-1"}, "weight": 0.5}],
    "controlnets": [],
}
INVOKE_4 = {
    **INVOKE,
    "model": {"key": "1f", "hash": "blake3:ab", "name": "ink", "base": "sd-1", "type": "main"},
    "loras": [{"model": {"key": "2e", "name": "wash", "base": "sd-1"}, "weight": 0.5}],
    "rand_device": "cuda",
    "ref_images": [{"image": "a.png"}],
}
INVOKED = {**BOAT, "scheduler": "dpmpp_2m_karras", "clip_skip": 1, "model": "ink"}
INVOKED["loras"] = [{"name": "wash", "weight": 0.5}]
DREAM = '"a boat, 蓝色 [fog]" -s 12 -S 4 -W 512 -H 768 -C 6.5 -A k_euler_a -G 0.9'
SD_METADATA = {
    "model": "stable diffusion",
    "model_weights": "ink",
    "app_id": "invoke-ai/InvokeAI",
    "app_version": "2.3.0",
    "image": {
        "prompt": [{"prompt": "a boat, 蓝色 [fog]", "weight": 1.0}],
        "steps": 12,
        "cfg_scale": 6.5,
        "threshold": 0,
        "perlin": 0,
        "width": 512,
        "height": 768,
        "seed": 4,
        "seamless": False,
        "type": "txt2img",
        "postprocessing": None,
        "sampler": "k_euler_a",
        "variations": [],
    },
}
NOVELAI = {"steps": 12, "sampler": "k_euler_ancestral", "seed": 4, "strength": 0.4, "noise": 0.0}
NOVELAI |= {"scale": 6.5, "uc": "fog"}
NOVELAI_4 = {
    **NOVELAI,
    "prompt": "a boat, 蓝色",
    "width": 512,
    "height": 768,
    "sampler": "k_dpmpp_2m",
    "noise_schedule": "karras",
    "request_type": "PromptGenerateRequest",
    "sm": True,
    "v4_prompt": {"caption": {"base_caption": "a boat", "char_captions": [{"char_caption": "x"}]}},
}
SWARM = {
    "sui_image_params": {
        "prompt": "a boat, 蓝色",
        "negativeprompt": "fog",
        "model": "Official/sd_xl_base_1.0",
        "seed": 4,
        "steps": "12",
        "cfgscale": 6.5,
        "aspectratio": "Custom",
        "width": 512,
        "height": 768,
        "sampler": "euler_ancestral",
        "scheduler": "normal",
        "loras": ["styles/wash"],
        "loraweights": ["0.5"],
        "clipstopatlayer": -2,
        "freeuversion": "2",
        "swarm_version": "0.9.3.1",
    },
    "sui_extra_data": {"date": "2024-11-13"},
}
FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernaut",
    "clip_skip": 2,
    "full_negative_prompt": ["fog"],
    "full_prompt": ["a boat", "蓝色"],
    "guidance_scale": 6.5,
    "loras": [["wash", 0.5, "f0f0f0f0f0"]],
    "metadata_scheme": "fooocus",
    "negative_prompt": "",
    "performance": "Speed",
    "prompt": "a boat",
    "resolution": "(512, 768)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "4",
    "steps": 12,
    "styles": "['Fooocus V2']",
    "version": "Fooocus v2.4.3",
}
DRAW_THINGS = {
    "c": "a boat, 蓝色",
    "uc": "fog",
    "model": "sd_v1.5_f16.ckpt",
    "sampler": "Euler A",
    "scale": 6.5,
    "seed": 4,
    "seed_mode": "Scale Alike",
    "size": "512x768",
    "steps": 12,
    "strength": 1,
    "lora": [{"model": "wash.ckpt", "weight": 0.5}],
    "v2": {"upscaler": "esrgan.ckpt", "controls": []},
}
XMP = (
    '<x:xmpmeta><rdf:Description><exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">'
    + json.dumps(DRAW_THINGS, ensure_ascii=False).replace("&", "&amp;").replace('"', "&quot;")
    + "</rdf:li></rdf:Alt></exif:UserComment></rdf:Description></x:xmpmeta>"
)
EASY = {
    "prompt": "a boat, 蓝色",
    "negative_prompt": "fog",
    "seed": 4,
    "width": 512,
    "height": 768,
    "num_inference_steps": 12,
    "guidance_scale": 6.5,
    "sampler_name": "euler_a",
    "use_stable_diffusion_model": "C:\\models\\ink.safetensors",
    "use_vae_model": "mse",
    "use_lora_model": ["wash"],
    "lora_alpha": [0.5],
    "clip_skip": True,
    "num_outputs": 1,
    "use_upscale": None,
}
EASILY = {**BOAT, "scheduler": "euler_a", "model": "ink", "clip_layer": 2}
EASILY["loras"] = [{"name": "wash", "weight": 0.5}]
WASH = [{"name": "wash", "weight": 0.5}]

SAMPLES: dict[str, tuple[dict[str, str], dict[str, Any], list[str]]] = {
    "webui, the first": (
        infotext(FIELDS.format("") + ", Model hash: 7460a6fa"),
        {**BOAT, "scheduler": "euler_a"},
        ["Model hash", NOISE],
    ),
    "webui 1.6": (
        infotext(
            FIELDS.format("").replace("Euler a", "DPM++ 2M SDE Karras")
            + ", Model: ink, VAE hash: 1f, VAE: mse.pt, RNG: CPU, Version: v1.6.0"
        ),
        {**BOAT, "scheduler": "dpmpp_2m_sde_karras", "model": "ink", "version": "v1.6.0"},
        ["VAE hash", "VAE"],
    ),
    "webui 1.6's lower letters": (
        infotext(FIELDS.format("Schedule type: karras, ").replace("Euler a", "DPM++ 2M")),
        {**BOAT, "scheduler": "dpmpp_2m_karras"},
        [NOISE],
    ),
    "webui 1.9": (
        infotext(FIELDS.format("Schedule type: SGM Uniform, ").replace("Euler a", "Euler")),
        {**BOAT, "scheduler": "euler"},
        ["Schedule type", NOISE],
    ),
    "Forge": (
        infotext(
            FIELDS.format("Schedule type: Automatic, ")
            + ", Clip skip: 2, Emphasis: No norm, Module 1: mse, Version: f2.0.1v1.10.1-previous"
        ),
        {**BOAT, "scheduler": "euler_a", "clip_layer": 2, "version": "f2.0.1v1.10.1-previous"},
        ["Emphasis", "Module 1", NOISE],
    ),
    "webui's text on Civitai": (
        infotext(
            FIELDS.format("")
            + ', Created Date: 2024-01-02T03:04:05Z, Civitai resources: [{"type":"checkpoint",'
            + '"modelVersionId":1},{"type":"lora"}], Civitai metadata: {}, Clip skip: 2'
        ),
        {**BOAT, "scheduler": "euler_a", "clip_layer": 2},
        ["Civitai resources", "Civitai metadata", NOISE],
    ),
    "InvokeAI 3": ({"invokeai_metadata": json.dumps(INVOKE)}, INVOKED, []),
    "InvokeAI 4": (
        {"invokeai_metadata": json.dumps(INVOKE_4)},
        INVOKED,
        ["ref_images", "rand_device cuda"],
    ),
    "InvokeAI 2": (
        {"Dream": DREAM, "sd-metadata": json.dumps(SD_METADATA)},
        {**BOAT, "scheduler": "euler_a", "model": "ink"},
        [],
    ),
    "Dream": ({"Dream": DREAM}, {**BOAT, "scheduler": "euler_a"}, ["-G"]),
    "Dream, without spaces": (
        {"Dream": '"a boat, 蓝色" -s12 -W512 -H768 -C6.5 -Ak_lms -S4 -v0.2'},
        {**{k: v for k, v in BOAT.items() if k != "negative_prompt"}, "scheduler": "lms"},
        ["-v0.2"],
    ),
    "NovelAI": (
        {
            "Software": "NovelAI",
            "Source": "Stable Diffusion 1D44365E",
            "Description": "a boat, 蓝色",
            "Comment": json.dumps(NOVELAI),
        },
        {**SIZELESS, "scheduler": "euler_a", "model": "Stable Diffusion"},
        ["noise (NovelAI's own; the picture will be another)"],
    ),
    "NovelAI 4": (
        {
            "Software": "NovelAI",
            "Source": "NovelAI Diffusion V4 37442FCA",
            "Description": "a boat, 蓝色",
            "Comment": json.dumps(NOVELAI_4),
        },
        {**BOAT, "scheduler": "dpmpp_2m_karras", "model": "NovelAI Diffusion V4"},
        ["sm", "prompts of characters", "noise (NovelAI's own; the picture will be another)"],
    ),
    "SwarmUI": (
        {"parameters": json.dumps(SWARM, indent=2)},
        {
            **BOAT,
            "scheduler": "euler_a",
            "model": "sd_xl_base_1.0",
            "clip_layer": 2,
            "loras": WASH,
        },
        ["freeuversion"],
    ),
    "Fooocus": (
        {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"},
        {
            **BOAT,
            "scheduler": "dpmpp_2m_sde_karras",
            "model": "juggernaut",
            "clip_layer": 2,
            "loras": [{"name": "wash", "weight": 0.5, "hash": "f0f0f0f0f0"}],
        },
        ["adm_guidance"],
    ),
    "Fooocus 2.1, by labels": (
        {
            "Comment": json.dumps(
                {
                    "Prompt": "a boat, 蓝色",
                    "Negative Prompt": "fog",
                    "Resolution": "(512, 768)",
                    "Guidance Scale": 6.5,
                    "Steps": 12,
                    "Seed": 4,
                    "Sampler": "euler_ancestral",
                    "Scheduler": "normal",
                    "Base Model": "juggernaut.safetensors",
                    "lora_combined_1": "wash.safetensors : 0.5",
                    "Sharpness": 2.0,
                }
            )
        },
        {**BOAT, "scheduler": "euler_a", "model": "juggernaut", "loras": WASH},
        ["Sharpness"],
    ),
    "Fooocus in webui's scheme": (
        {
            **infotext(
                FIELDS.format("").replace("Euler a", "DPM++ 2M SDE Karras")
                + ", Sharpness: 2, Scheduler: karras, Raw prompt: a boat, "
                + 'Lora hashes: "wash: f0f0f0f0f0", Lora weights: "wash: 0.5", RNG: CPU'
            ),
            "fooocus_scheme": "a1111",
        },
        {
            **BOAT,
            "scheduler": "dpmpp_2m_sde_karras",
            "loras": [{"name": "wash", "weight": 0.5, "hash": "f0f0f0f0f0"}],
        },
        ["Sharpness"],
    ),
    "Draw Things": (
        {"XML:com.adobe.xmp": XMP},
        {
            **BOAT,
            "scheduler": "euler_a",
            "strength": 1.0,
            "model": "sd_v1.5_f16",
            "loras": WASH,
        },
        ["seed_mode", "upscaler"],
    ),
    "Easy Diffusion": (
        {name: str(value) for name, value in EASY.items() if isinstance(value, str | int | float)},
        {**BOAT, "scheduler": "euler_a", "model": "ink", "clip_layer": 2},
        ["use_vae_model"],
    ),
    "scripts on diffusers": (
        {
            "parameters": json.dumps(
                {
                    "prompt": "a boat, 蓝色",
                    "negative_prompt": "fog",
                    "seed": "4",
                    "num_inference_steps": 12.0,
                    "guidance_scale": 6.5,
                    "scheduler": "EulerAncestralDiscreteScheduler",
                    "width": 512,
                    "height": 768,
                    "freeu": {"b1": 1.1},
                }
            )
        },
        {**BOAT, "scheduler": "euler_a"},
        ["freeu"],
    ),
    "ComfyUI": (
        {"prompt": json.dumps(comfy_graph()), "workflow": "{}"},
        {**BOAT, "scheduler": "dpmpp_2m_karras", "model": "v1-5"},
        [],
    ),
}
