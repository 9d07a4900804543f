"""Train the autoencoder: 64x64 pictures to 4x16x16 latents and back.

Loss: L1 + L2 on pixels, L1 on the differences between neighbours (which keeps edges) and between
colours (which keeps hues), and a small KL term to a unit Gaussian (Rombach et al. 2022, section
3.1, without the adversarial and perceptual parts: flat icons do not need them).

Writes `work/vae/` (diffusers) with whitened latents.
"""

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from . import WORK
from .loop import autocast, parse_options, pick_device, start_as_identity, train
from .pictures import SIZE, Renders
from .workers import is_first_worker

SMALL_BATCHES_UNTIL = 0.4  # of the time: at first, many steps teach more than exact ones
KL_WEIGHT = 2e-4
EDGE_WEIGHT = 0.3
HUE_WEIGHT = 0.5
EMA_DECAY = 0.999
FIRST_LOG_VARIANCE = -5.0  # a posterior as wide as its prior would drown the first signals


def build() -> AutoencoderKL:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,  # many small groups would take the ground's colour out
        sample_size=SIZE,
        scaling_factor=1.0,  # `whiten` makes it so
    )
    start_as_identity(vae)
    with torch.no_grad():
        vae.quant_conv.bias[vae.config.latent_channels :] = FIRST_LOG_VARIANCE
    return vae


def picture_losses(painted: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """`l1`, and `loss`: L1 + L2 + weighted L1s of the differences between neighbours and colours.

    Red, green and blue rise and fall together, so an error of hue is small in each of them; the
    differences between them say it plainly.
    """
    l1 = functional.l1_loss(painted, pixels)
    loss = l1 + functional.mse_loss(painted, pixels)
    for dim in (-2, -1):
        edges = functional.l1_loss(painted.diff(dim=dim), pixels.diff(dim=dim))
        loss = loss + EDGE_WEIGHT * edges
    hue = functional.l1_loss(painted.diff(dim=1), pixels.diff(dim=1))
    return {"loss": loss + HUE_WEIGHT * hue, "l1": l1, "hue": hue}


@torch.no_grad()
def whiten(vae: AutoencoderKL, posterior: DiagonalGaussianDistribution) -> None:
    """Give the latents zero mean, unit variance and uncorrelated channels; no picture changes.

    The map is affine for each latent pixel, so it folds into the 1x1 convolution before the
    latents, and its inverse into the one after them. Diffusion starts from white noise, and Stable
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
    before.weight[:channels, :, 0, 0] = white @ before.weight[:channels, :, 0, 0]
    before.bias[:channels] = white @ (before.bias[:channels] - centre)
    before.weight[channels:] = 0.0
    before.bias[channels:] = noise.diagonal().log()
    columns = after.weight[:, :, 0, 0].clone()
    after.weight[:, :, 0, 0] = columns @ white.inverse()
    after.bias += columns @ centre


@torch.no_grad()
def finish(vae: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Whiten the latents of `pixels` and write `work/vae`."""
    whiten(vae, vae.encode(pixels).latent_dist)
    vae.save_pretrained(WORK / "vae")
    posterior = vae.encode(pixels).latent_dist
    l1 = functional.l1_loss(vae.decode(posterior.mean).sample, pixels)
    print(f"L1 {l1:.4f}, latents' std {posterior.mean.std():.4f}, noise {posterior.std.mean():.4f}")


def main() -> None:
    options = parse_options(minutes=20.0, batch=8, rate=1e-3)
    device = pick_device()
    torch.manual_seed(options.seed)  # the same first weights on every worker
    vae = build().to(device, memory_format=torch.channels_last)
    average = AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))
    renders = Renders()

    def losses(renders: Renders, size: int, share: float) -> dict[str, torch.Tensor]:
        early = share < SMALL_BATCHES_UNTIL
        pixels = renders.batch(size // 2 if early else size)
        pixels = pixels.to(device, memory_format=torch.channels_last)
        with autocast():
            posterior = vae.encode(pixels).latent_dist
            painted = vae.decode(posterior.sample()).sample.float()
        scalars = picture_losses(painted, pixels)
        scalars["kl"] = posterior.kl().mean() / posterior.mean[0].numel()
        scalars["loss"] = scalars["loss"] + KL_WEIGHT * scalars["kl"]
        return scalars

    train("autoencoder", vae, renders, losses, options, average)
    if is_first_worker():
        finish(average.module, renders.batch(512).to(device))


if __name__ == "__main__":
    main()
