"""The two halves of a variational autoencoder."""

from typing import Any

from torch import Tensor, nn

from .graph import Graph, Inputs, normal

_PICTURE = {0: "batch_size", 2: "height", 3: "width"}
_LATENTS = {0: "batch_size", 2: "latent_height", 3: "latent_width"}


class VaeDecoder(nn.Module):
    """Latents, divided by the scaling factor, to a picture in [-1, 1]."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample: Tensor) -> tuple[Tensor]:
        out: tuple[Tensor] = self.vae.decode(latent_sample, return_dict=False)
        return out


class VaeEncoder(nn.Module):
    """A picture in [-1, 1] to the mean and logarithm of the variance of its latents."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, sample: Tensor) -> Tensor:
        parameters: Tensor = self.vae.encode(sample, return_dict=False)[0].parameters
        return parameters


class TinyVaeEncoder(nn.Module):
    """A picture in [-1, 1] to its latents: a tiny autoencoder has no variance."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, sample: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(sample, return_dict=False)[0]
        return latents


def vae_decoder(vae: Any) -> Graph:
    """The graph of the decoder of diffusers' AutoencoderKL or AutoencoderTiny."""
    channels = vae.config.latent_channels

    def case(batch: int, height: int, width: int) -> Inputs:
        return {"latent_sample": normal(batch, channels, height, width)}

    return Graph(
        name="vae_decoder",
        module=VaeDecoder(vae).eval(),
        inputs={"latent_sample": _LATENTS},
        outputs={"sample": _PICTURE},
        cases=[lambda: case(2, 9, 13), lambda: case(1, 8, 8), lambda: case(3, 12, 8)],
    )


def vae_encoder(vae: Any) -> Graph:
    """The graph of the encoder of diffusers' AutoencoderKL."""
    factor = 2 ** (len(vae.config.down_block_types) - 1)
    return _encoder(VaeEncoder(vae), vae.config.in_channels, factor, "latent_parameters")


def tiny_vae_encoder(vae: Any) -> Graph:
    """The graph of the encoder of diffusers' AutoencoderTiny."""
    factor = 2 ** (len(vae.config.num_encoder_blocks) - 1)
    return _encoder(TinyVaeEncoder(vae), vae.config.in_channels, factor, "latent_sample")


def _encoder(module: nn.Module, channels: int, factor: int, output: str) -> Graph:
    """factor: pixels that a cell of the latents spans along one side."""

    def case(batch: int, height: int, width: int) -> Inputs:
        return {"sample": normal(batch, channels, height * factor, width * factor)}

    return Graph(
        name="vae_encoder",
        module=module.eval(),
        inputs={"sample": _PICTURE},
        outputs={output: _LATENTS},
        cases=[lambda: case(2, 9, 13), lambda: case(1, 8, 8), lambda: case(3, 12, 8)],
    )
