"""Train the U-Net and the text encoder together on the encoded icons.

The parts and the noise are Stable Diffusion's: epsilon prediction over 1000 steps of the scaled
linear schedule 0.00085..0.012, 77 tokens by cross-attention, captions dropped one time in ten for
classifier-free guidance. The loss is weighted by min-SNR with gamma 5 (Hang et al. 2023), the
timesteps of a batch are spread evenly over the schedule, and what is saved is the exponential
moving average of the weights.

Writes `work/preview/` during and `work/checkpoint/` after training (diffusers folders),
`work/diffusion.csv` and `work/diffusion.pt` to resume from.
"""

import argparse
import shutil
from functools import lru_cache
from pathlib import Path
from random import Random

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import WORK
from .captions import BACKGROUNDS, STYLES, SUBJECTS, caption
from .latents import TAKES
from .loop import (
    Clock,
    append_row,
    autocast,
    average_over_workers,
    join_workers,
    learning_rate,
    pick_device,
    save_state,
)

WHITE = list(BACKGROUNDS).index("white")  # what an unsaid background means
UNSAID_STYLE = 0.5
UNSAID_BACKGROUND = 0.45
UNSAID_CAPTION = 0.1
MIN_SNR_GAMMA = 5.0
EMA_DECAY = 0.999
SAVE_EVERY_MINUTES = 5.0


class Painter(nn.Module):
    """The two parts trained here: text encoder and U-Net."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=128,
                intermediate_size=512,
                projection_dim=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=tokenizer.model_max_length,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(48, 72, 96),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=128,
            attention_head_dim=4,  # diffusers' name for the number of heads
            norm_num_groups=8,
        )

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, input_ids: torch.Tensor
    ) -> torch.Tensor:
        """The predicted noise, (B, 4, 16, 16), for input_ids (B, 77) and timesteps (B,)."""
        hidden = self.text_encoder(input_ids)[0]
        return self.unet(noisy, timesteps, hidden, return_dict=False)[0]


class Examples:
    """Endless batches of latents with captions, in an order that the seed fixes."""

    def __init__(self, tokenizer: CLIPTokenizer, seed: int) -> None:
        self.latents = torch.load(WORK / "latents.pt")
        self.tokenizer = tokenizer
        self.random = Random(seed)
        self.encode = lru_cache(maxsize=None)(self._encode)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents float32 (size, 4, 16, 16) and input ids int64 (size, 77)."""
        latents, input_ids = zip(*(self._draw() for _ in range(size)), strict=True)
        return torch.stack(latents).float(), torch.tensor(input_ids)

    def _draw(self) -> tuple[torch.Tensor, list[int]]:
        random = self.random
        subject, style = random.randrange(len(SUBJECTS)), random.randrange(len(STYLES))
        unsaid_background = random.random() < UNSAID_BACKGROUND
        background = WHITE if unsaid_background else random.randrange(len(BACKGROUNDS))
        latents = self.latents[subject, style, background, random.randrange(TAKES)]
        words = caption(
            random,
            list(SUBJECTS)[subject],
            None if random.random() < UNSAID_STYLE else list(STYLES)[style],
            None if unsaid_background else list(BACKGROUNDS)[background],
        )
        return latents, self.encode("" if random.random() < UNSAID_CAPTION else words)

    def _encode(self, words: str) -> list[int]:
        length = self.tokenizer.model_max_length
        return self.tokenizer(words, padding="max_length", max_length=length).input_ids


def noise_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )


def spread_timesteps(size: int) -> torch.Tensor:
    """One random timestep in each of `size` equal parts of the schedule."""
    return ((torch.arange(size) + torch.rand(size)) * (1000 / size)).long()


def min_snr_loss(
    predicted: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """Mean squared error weighted by min(SNR, gamma) / SNR; `alphas_cumprod` (B,)."""
    snr = alphas_cumprod / (1.0 - alphas_cumprod)
    weight = snr.clamp(max=MIN_SNR_GAMMA) / snr
    return (weight * (predicted - noise).square().mean((1, 2, 3))).mean()


def save_pipeline(painter: Painter, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the diffusers folder of the trained parts and the autoencoder, float32."""
    StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(WORK / "vae"),
        text_encoder=painter.text_encoder,
        tokenizer=tokenizer,
        unet=painter.unet,
        scheduler=noise_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    # transformers 5 writes tokenizer.json only; Stable Diffusion's folder has vocab and merges.
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(WORK / "tokenizer", folder / "tokenizer")


def train(minutes: float, batch: int, peak: float, seed: int, resume: bool) -> None:
    device = pick_device()
    rank, workers = join_workers()
    torch.manual_seed(seed)  # the same first weights on every worker
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
    painter = Painter(tokenizer).to(device)
    average = AveragedModel(painter, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
    optimizer = torch.optim.AdamW(painter.parameters(), lr=peak, betas=(0.9, 0.99))
    clock, step = Clock(minutes), 0
    saved, curves = WORK / "diffusion.pt", WORK / "diffusion.csv"
    if resume and saved.exists():
        state = torch.load(saved, map_location=device)
        painter.load_state_dict(state["painter"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        clock.spent, step = state["spent"], state["step"]
    elif rank == 0:
        curves.unlink(missing_ok=True)
    stream = 1000 * (seed + step) + rank  # one stream a worker, a new one after each resume
    torch.manual_seed(stream)
    examples = Examples(tokenizer, stream)
    scheduler = noise_scheduler()

    def save(folder: Path) -> None:
        save_state(
            saved,
            {
                "painter": painter.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "spent": clock.spent,
                "step": step,
            },
        )
        save_pipeline(average.module, tokenizer, folder)

    losses, next_save = [], clock.spent + 60.0 * SAVE_EVERY_MINUTES
    while clock.share < 1.0:
        latents, input_ids = examples.batch(batch // workers)
        noise = torch.randn_like(latents)
        timesteps = spread_timesteps(len(latents))
        alphas_cumprod = scheduler.alphas_cumprod[timesteps]
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with autocast(device):
            predicted = painter(noisy.to(device), timesteps.to(device), input_ids.to(device))
        loss = min_snr_loss(predicted.float(), noise.to(device), alphas_cumprod.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_over_workers(p.grad for p in painter.parameters() if p.grad is not None)
        nn.utils.clip_grad_norm_(painter.parameters(), 1.0)
        rate = learning_rate(peak, clock.share, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        average.update_parameters(painter)
        clock.tick()
        step += 1
        losses.append(loss.item())
        if step % 50 == 0 and rank == 0:
            row = {
                "step": step,
                "minutes": round(clock.spent / 60, 3),
                "lr": round(rate, 7),
                "loss": round(sum(losses) / len(losses), 5),
            }
            append_row(curves, row)
            print(row, flush=True)
            losses.clear()
        if clock.spent >= next_save:
            next_save += 60.0 * SAVE_EVERY_MINUTES
            if rank == 0:
                save(WORK / "preview")
    if rank == 0:
        save(WORK / "checkpoint")


def main() -> None:
    on_cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Train the U-Net and the text encoder.")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time, pauses apart")
    parser.add_argument("--batch", type=int, default=256 if on_cuda else 32, help="of all workers")
    parser.add_argument("--lr", type=float, default=8e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    train(args.minutes, args.batch, args.lr, args.seed, args.resume)


if __name__ == "__main__":
    main()
