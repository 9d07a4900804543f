"""Train the U-Net, and the text encoder on from its own stage, on the encoded icons.

The parts and the noise are Stable Diffusion's: epsilon prediction over 1000 steps of the scaled
linear schedule 0.00085..0.012, 77 tokens by cross-attention, captions dropped one time in ten for
classifier-free guidance. The loss is weighted by min-SNR with gamma 5 (Hang et al. 2023), the
timesteps of a batch are spread evenly over the schedule, and what is saved is the exponential
moving average of the weights.

Writes `work/preview/` during and `work/checkpoint/` after training (diffusers folders),
`work/diffusion.csv` and `work/diffusion.pt` to resume from.
"""

from functools import lru_cache, partial
from pathlib import Path
from random import Random

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextModel, CLIPTokenizer

from . import WORK
from .captions import caption
from .checkpoint import noise_scheduler, save_checkpoint
from .loop import autocast, parse_options, pick_device, start_as_identity, train
from .scenes import Scene
from .workers import is_first_worker

#: How many of the scenes show a single thing, and of those of several things each kind.
SINGLES = 0.6
SEVERAL = {"pair": 0.625, "count": 0.375}
UNSAID_STYLE = 0.4
UNSAID_WHITE = 0.6  # a white background is what an unsaid one means
UNSAID_CAPTION = 0.1
MIN_SNR_GAMMA = 5.0
EMA_DECAY = 0.999


class Painter(nn.Module):
    """The two parts trained here: text encoder and U-Net."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(48, 80, 112),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=text_encoder.config.hidden_size,
            attention_head_dim=4,  # diffusers' name for the number of heads
            norm_num_groups=8,
        )
        start_as_identity(self.unet)

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, input_ids: torch.Tensor
    ) -> torch.Tensor:
        """The predicted noise, (B, 4, 16, 16), for input_ids (B, 77) and timesteps (B,)."""
        hidden = self.text_encoder(input_ids)[0]
        return self.unet(noisy, timesteps, hidden, return_dict=False)[0]


class Examples:
    """Endless batches of latents with captions, in an order that the seed fixes."""

    def __init__(self, tokenizer: CLIPTokenizer, singles: float = SINGLES) -> None:
        self.shares = {"single": singles}
        self.shares |= {kind: share * (1.0 - singles) for kind, share in SEVERAL.items()}
        self.encoded = torch.load(WORK / "latents.pt")
        self.tokenizer = tokenizer
        self.random = Random()
        self.encode = lru_cache(maxsize=100_000)(self._encode)

    def seed(self, seed: int) -> None:
        self.random.seed(seed)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents float32 (size, 4, h, w) and input ids int64 (size, 77)."""
        latents, input_ids = zip(*(self._draw() for _ in range(size)), strict=True)
        return torch.stack(latents).float(), torch.tensor(input_ids)

    def _draw(self) -> tuple[torch.Tensor, list[int]]:
        random = self.random
        kind = random.choices(list(self.shares), list(self.shares.values()))[0]
        scenes, latents = self.encoded[kind]
        row = random.randrange(len(scenes))
        scene = Scene(*scenes[row])
        unsaid = scene.background == "white" and random.random() < UNSAID_WHITE
        style = random.random() >= UNSAID_STYLE
        words = caption(random, scene, style=style, background=not unsaid)
        return latents[row], self.encode("" if random.random() < UNSAID_CAPTION else words)

    def _encode(self, words: str) -> list[int]:
        length = self.tokenizer.model_max_length
        return self.tokenizer(words, padding="max_length", max_length=length).input_ids


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


def main() -> None:
    device = pick_device()
    options = parse_options(
        minutes=48.0,
        batch=256 if device.type == "cuda" else 32,
        rate=8e-4,
        singles=(SINGLES, "how many of the scenes show a single thing"),
        begin=("", "a diffusers folder whose weights to begin with (default: new ones)"),
    )
    torch.manual_seed(options.seed)  # the same first weights on every worker
    tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
    painter = Painter(CLIPTextModel.from_pretrained(WORK / "text_encoder"))
    if options.begin:
        folder = Path(options.begin)
        painter.unet = UNet2DConditionModel.from_pretrained(folder / "unet")
        painter.text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    painter.float().to(device)  # source/ is in float16
    average = AveragedModel(painter, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
    scheduler = noise_scheduler()

    def losses(examples: Examples, size: int, share: float) -> dict[str, torch.Tensor]:
        latents, input_ids = examples.batch(size)
        noise = torch.randn_like(latents)
        timesteps = spread_timesteps(size)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        with autocast():
            predicted = painter(noisy.to(device), timesteps.to(device), input_ids.to(device))
        alphas_cumprod = scheduler.alphas_cumprod[timesteps].to(device)
        return {"loss": min_snr_loss(predicted.float(), noise.to(device), alphas_cumprod)}

    def save_to(folder: Path) -> None:
        save_checkpoint(folder, average.module.text_encoder, average.module.unet)

    examples = Examples(tokenizer, options.singles)
    preview = partial(save_to, WORK / "preview")
    train("diffusion", painter, examples, losses, options, average, preview)
    if is_first_worker():
        save_to(WORK / "checkpoint")


if __name__ == "__main__":
    main()
