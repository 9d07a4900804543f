"""Distil the U-Net into one that paints in 2 to 4 steps without guidance, as a LoRA.

Latent consistency models (Luo et al. 2023, arXiv 2310.04378), trained as a LoRA (arXiv 2311.05556).
A consistency function takes every point of a trajectory from noise to picture to the trajectory's
end. From noisy latents the teacher takes one DDIM step with classifier-free guidance; the student's
answer before that step must be the target's answer after it. Teacher: the U-Net as it is. Student:
the same with a LoRA. Target: the moving average of the student.

Writes `work/few_step/pytorch_lora_weights.safetensors` (diffusers' format, during training too),
and at the end `work/few_step/checkpoint/`: the folder `work/checkpoint/` with the LoRA in the
U-Net's own weights and the LCM scheduler.
"""

from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from diffusers import LCMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn
from torch.func import functional_call
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextModel, CLIPTokenizer

from . import WORK
from .checkpoint import noise_scheduler, save_pipeline
from .diffusion import Examples, spread_timesteps
from .loop import autocast, parse_options, pick_device, train
from .workers import is_first_worker

GUIDANCE = 4.0  # models/catalog.toml's default, so that both variants paint alike
STRIDE = 1000 // 50  # of the solver: LCMScheduler counts in 50 original_inference_steps
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0
HUBER_WIDTH = 1e-3
EMA_DECAY = 0.95
RANK = 8  # LCM-LoRA's is 64 beside 320 to 1280 channels, a fifth to a twentieth; so is this
LAYERS = [
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj"),
    *("downsamplers.0.conv", "upsamplers.0.conv"),
]


def solver_timesteps(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the solver's step starts (19, 39 .. 999) and ends (0, 19 .. 979), int64 (size,)."""
    start = spread_timesteps(size) // STRIDE * STRIDE + STRIDE - 1
    return start, (start - STRIDE).clamp(min=0)


def boundary_scalings(timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """c_skip and c_out, (B, 1, 1, 1), of f(x, t) = c_skip x + c_out x_0: they make f(x, 0) = x."""
    scaled = TIMESTEP_SCALING * timesteps.view(-1, 1, 1, 1)
    norm = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / norm, scaled / norm.sqrt()


def clean(x: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """x_0 of x = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise."""
    return (x - (1.0 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()


def ddim_step(
    x: torch.Tensor, noise: torch.Tensor, alpha_bar: torch.Tensor, alpha_bar_next: torch.Tensor
) -> torch.Tensor:
    """Song et al. 2021, equation 12 with eta 0."""
    x_0 = clean(x, noise, alpha_bar)
    return alpha_bar_next.sqrt() * x_0 + (1.0 - alpha_bar_next).sqrt() * noise


def pseudo_huber(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L2 within HUBER_WIDTH, L1 beyond: the rare large errors of early steps do not rule."""
    return ((found - wanted).square() + HUBER_WIDTH**2).sqrt().mean() - HUBER_WIDTH


class Distillation:
    """Teacher, student and target, and how far the student is from its target.

    `lora` holds the student's trained weights, `target` their average; both run in the same U-Net.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        no_words: torch.Tensor,
        guidance: float = GUIDANCE,
        rank: int = RANK,
    ) -> None:
        """`no_words`: the input ids of the empty caption, int64 (1, 77)."""
        self.teacher = unet.requires_grad_(False)
        self.text_encoder = text_encoder.requires_grad_(False)
        self.unguided_hidden = text_encoder(no_words)[0]
        self.guidance = guidance
        self.alphas_cumprod = noise_scheduler().alphas_cumprod.to(unet.device)
        # alpha = rank: a scale of 1, which readers that look for no alpha assume.
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=LAYERS)
        self.student = deepcopy(unet)
        self.student.add_adapter(config)
        trained = {n: p for n, p in self.student.named_parameters() if p.requires_grad}
        self.names = list(trained)
        self.lora = nn.ParameterList(trained.values())
        self.target = AveragedModel(self.lora, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))

    def losses(self, examples: Examples, size: int, share: float) -> dict[str, torch.Tensor]:
        device = self.teacher.device
        latents, input_ids = (batch.to(device) for batch in examples.batch(size))
        start, end = (timesteps.to(device) for timesteps in solver_timesteps(size))
        noise = torch.randn(latents.shape).to(device)
        a = self.alpha_bar(start)
        x = a.sqrt() * latents + (1.0 - a).sqrt() * noise
        with torch.no_grad():
            hidden = self.text_encoder(input_ids)[0]
            guided = self.guided_noise(x, start, hidden)
            x_next = ddim_step(x, guided, a, self.alpha_bar(end))
            wanted = self.consistency(self.target.module, x_next, end, hidden)
        return {"loss": pseudo_huber(self.consistency(self.lora, x, start, hidden), wanted)}

    def alpha_bar(self, timesteps: torch.Tensor) -> torch.Tensor:
        return self.alphas_cumprod[timesteps].view(-1, 1, 1, 1)

    def guided_noise(
        self, x: torch.Tensor, timesteps: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """The teacher's noise with classifier-free guidance; both halves in one batch."""
        both = torch.cat([self.unguided_hidden.expand_as(hidden), hidden])
        with autocast():
            noise = self.teacher(x.repeat(2, 1, 1, 1), timesteps.repeat(2), both).sample.float()
        unguided, guided = noise.chunk(2)
        return unguided + self.guidance * (guided - unguided)

    def consistency(
        self, lora: nn.ParameterList, x: torch.Tensor, timesteps: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """f(x, t) with these LoRA weights: the clean latents that x at timestep t leads to."""
        weights = dict(zip(self.names, lora, strict=True))
        with autocast():
            noise = functional_call(self.student, weights, (x, timesteps, hidden)).sample.float()
        c_skip, c_out = boundary_scalings(timesteps)
        return c_skip * x + c_out * clean(x, noise, self.alpha_bar(timesteps))

    def save(self, folder: Path) -> None:
        """Write the target's LoRA as `folder`/pytorch_lora_weights.safetensors, float16."""
        weights = dict(zip(self.names, self.target.module, strict=True))
        layers = get_peft_model_state_dict(self.student, state_dict=weights)
        halves = {name: weight.detach().half().cpu() for name, weight in layers.items()}
        StableDiffusionPipeline.save_lora_weights(folder, halves)


def fuse(checkpoint: Path, lora: Path, folder: Path) -> None:
    """Write to `folder` the diffusers folder `checkpoint`, its U-Net plus the saved LoRA."""
    pipe = StableDiffusionPipeline.from_pretrained(checkpoint)
    pipe.load_lora_weights(lora)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    save_pipeline(pipe, folder)


def main() -> None:
    device = pick_device()
    options = parse_options(
        minutes=20.0,
        batch=256 if device.type == "cuda" else 32,
        rate=5e-4,
        guidance=(GUIDANCE, "of the teacher"),
        rank=(RANK, "of the LoRA"),
    )
    torch.manual_seed(options.seed)  # the same first weights on every worker
    unet = UNet2DConditionModel.from_pretrained(WORK / "checkpoint", subfolder="unet")
    text_encoder = CLIPTextModel.from_pretrained(WORK / "checkpoint", subfolder="text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
    no_words = tokenizer("", padding="max_length", return_tensors="pt").input_ids.to(device)
    distillation = Distillation(
        unet.to(device), text_encoder.to(device), no_words, options.guidance, options.rank
    )
    save = partial(distillation.save, WORK / "few_step")
    train(
        "few_step",
        distillation.lora,
        Examples(tokenizer),
        distillation.losses,
        options,
        distillation.target,
        save,
    )
    if is_first_worker():
        fuse(WORK / "checkpoint", WORK / "few_step", WORK / "few_step" / "checkpoint")


if __name__ == "__main__":
    main()
