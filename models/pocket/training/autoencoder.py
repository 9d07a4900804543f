"""Train the autoencoder: 64x64 pictures to 4x16x16 latents and back.

Loss: L1 + L2 on pixels, L1 on their horizontal and vertical differences (which keeps edges), and a
small KL term to a unit Gaussian (Rombach et al. 2022, section 3.1, without the adversarial and
perceptual parts: flat icons do not need them).

Writes `work/vae/` (diffusers), `work/autoencoder.csv` and `work/autoencoder.pt` to resume from.
"""

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional

from . import WORK
from .captions import BACKGROUNDS
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

OTHERS_SHARE = 0.2
FREE_COLOUR_SHARE = 0.1
CROP = 32
CROP_UNTIL = 0.75  # share of the training time
KL_WEIGHT = 5e-4


def build() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
    )


def composite(rgba: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Lay premultiplied RGBA bytes (B, 64, 64, 4) on colours (B, 3) in 0..255; (B, 3, 64, 64) in
    -1..1."""
    rgba = rgba.float().permute(0, 3, 1, 2)
    ground = colour[:, :, None, None] * (1.0 - rgba[:, 3:] / 255.0)
    return (rgba[:, :3] + ground) / 127.5 - 1.0


class Pictures:
    """Endless batches of icons on coloured grounds, in an order that the seed fixes."""

    def __init__(self, seed: int) -> None:
        icons = np.load(WORK / "icons.npz")
        subjects = icons["subjects"]
        self.subjects = torch.from_numpy(subjects.reshape(-1, *subjects.shape[3:]))
        self.others = torch.from_numpy(icons["others"])
        self.colours = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32)
        self.random = torch.Generator().manual_seed(seed)

    def batch(self, size: int) -> torch.Tensor:
        """float32 (size, 3, 64, 64) in -1..1."""
        strangers = round(size * OTHERS_SHARE)
        rgba = torch.cat(
            [self._pick(self.subjects, size - strangers), self._pick(self.others, strangers)]
        )
        named = self._pick(self.colours, size)
        free = 255.0 * torch.rand(size, 3, generator=self.random)
        use_free = torch.rand(size, 1, generator=self.random) < FREE_COLOUR_SHARE
        return composite(rgba, torch.where(use_free, free, named))

    def crops(self, size: int) -> torch.Tensor:
        """float32 (size, 3, 32, 32) in -1..1: random parts of pictures. The autoencoder looks at
        neighbourhoods only, so parts teach it nearly as much as wholes at a quarter of the cost."""
        pixels = self.batch(size)
        corners = torch.randint(pixels.shape[-1] - CROP + 1, (size, 2), generator=self.random)
        return torch.stack(
            [
                picture[:, top : top + CROP, left : left + CROP]
                for picture, (top, left) in zip(pixels, corners.tolist(), strict=True)
            ]
        )

    def _pick(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        return rows[torch.randint(len(rows), (count,), generator=self.random)]


def gradient_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    across = functional.l1_loss(a.diff(dim=-1), b.diff(dim=-1))
    return across + functional.l1_loss(a.diff(dim=-2), b.diff(dim=-2))


def train(minutes: float, batch: int, peak: float, seed: int, resume: bool) -> None:
    device = pick_device()
    rank, workers = join_workers()
    torch.manual_seed(seed)  # the same first weights on every worker
    vae = build().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    pictures, clock, step = Pictures(1000 * seed + rank), Clock(minutes), 0
    saved = WORK / "autoencoder.pt"
    if resume and saved.exists():
        state = torch.load(saved, map_location=device, weights_only=False)
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        clock.spent, step = state["spent"], state["step"]
        pictures.random.manual_seed(1000 * (seed + step) + rank)
    elif rank == 0:
        (WORK / "autoencoder.csv").unlink(missing_ok=True)

    def save() -> None:
        save_state(
            saved,
            {
                "vae": vae.state_dict(),
                "optimizer": optimizer.state_dict(),
                "spent": clock.spent,
                "step": step,
            },
        )

    torch.manual_seed(1000 * (seed + step) + rank)  # the posterior's noise, one stream a worker
    while clock.share < 1.0:
        draw = pictures.crops if clock.share < CROP_UNTIL else pictures.batch
        pixels = draw(batch // workers).to(device, memory_format=torch.channels_last)
        with autocast(device):
            posterior = vae.encode(pixels).latent_dist
            painted = vae.decode(posterior.sample()).sample.float()
        l1 = functional.l1_loss(painted, pixels)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = (
            l1
            + functional.mse_loss(painted, pixels)
            + gradient_loss(painted, pixels)
            + KL_WEIGHT * kl
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_over_workers(parameter.grad for parameter in vae.parameters())
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        rate = learning_rate(peak, clock.share, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        clock.tick()
        step += 1
        if step % 20 == 0 and rank == 0:
            row = {
                "step": step,
                "minutes": round(clock.spent / 60, 3),
                "lr": round(rate, 7),
                "loss": round(loss.item(), 5),
                "l1": round(l1.item(), 5),
                "kl": round(kl.item(), 3),
            }
            append_row(WORK / "autoencoder.csv", row)
            print(row, flush=True)
        if step % 250 == 0 and rank == 0:
            save()
    if rank == 0:
        save()
        finish(vae, pictures, device)


@torch.no_grad()
def whiten(vae: AutoencoderKL, posterior: DiagonalGaussianDistribution) -> None:
    """Give the latents zero mean, unit variance and uncorrelated channels; no picture changes.

    The map is affine for each latent pixel, so it folds into the two 1x1 convolutions around the
    latents, and its inverse into the second. Diffusion starts from white noise, and Stable
    Diffusion has a scaling factor but no shift. The posterior's variance, which a rotation leaves
    no longer diagonal, becomes its average over the data.
    """
    means = posterior.mean.movedim(1, -1).flatten(0, -2)
    centre = means.mean(0)
    variances, axes = torch.linalg.eigh(torch.cov(means.T))
    white = axes @ torch.diag(variances.rsqrt()) @ axes.T
    noise = white @ torch.diag(posterior.var.mean((0, 2, 3))) @ white.T

    before, after = vae.quant_conv, vae.post_quant_conv
    channels = len(centre)
    rows = before.weight[:channels, :, 0, 0]
    before.weight[:channels, :, 0, 0] = white @ rows
    before.bias[:channels] = white @ (before.bias[:channels] - centre)
    before.weight[channels:] = 0.0
    before.bias[channels:] = noise.diagonal().log()
    columns = after.weight[:, :, 0, 0].clone()
    after.weight[:, :, 0, 0] = columns @ white.inverse()
    after.bias += columns @ centre


@torch.no_grad()
def finish(vae: AutoencoderKL, pictures: Pictures, device: torch.device) -> None:
    """Whiten the latents, which makes the scaling factor 1, and write `work/vae`."""
    vae.eval()
    pixels = pictures.batch(512).to(device)
    whiten(vae, vae.encode(pixels).latent_dist)
    vae.register_to_config(scaling_factor=1.0)
    vae.save_pretrained(WORK / "vae")
    latents = vae.encode(pixels).latent_dist
    l1 = functional.l1_loss(vae.decode(latents.mean).sample, pixels)
    noise = latents.std.mean()
    print(f"L1 {l1:.4f}, latents' std {latents.mean.std():.4f}, posterior std {noise:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the autoencoder.")
    parser.add_argument("--minutes", type=float, default=20.0, help="training time, pauses apart")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    train(args.minutes, args.batch, args.lr, args.seed, args.resume)


if __name__ == "__main__":
    main()
