"""The few-step LoRA and the tiny autoencoder, on small random parts and against diffusers."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    LCMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file

import checkpoints
from pleinair.models.pocket.training import checkpoint, diffusion, few_step, loop, tiny_decoder
from pleinair.models.pocket.training.checkpoint import noise_scheduler
from pleinair.models.pocket.training.few_step import Distillation
from pleinair.models.pocket.training.vocabulary import STYLES, SUBJECTS
from pleinair.runtime import schedulers

TOKENS = 99


class RandomExamples:
    """The same latents and input ids in every batch."""

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        random = torch.Generator().manual_seed(0)
        latents = torch.randn(size, 4, 8, 8, generator=random)
        return latents, torch.randint(TOKENS, (size, 77), generator=random)


class RandomRenders:
    """Plain grounds with a square on them, in place of drawn scenes."""

    def seed(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)

    def batch(self, size: int) -> torch.Tensor:
        ground, square = 2 * torch.rand(2, size, 3, 1, 1, generator=self.random) - 1
        pixels = ground.repeat(1, 1, 32, 32)
        pixels[..., 8:24, 8:24] = square
        return pixels


@pytest.fixture
def distillation() -> Distillation:
    """One whose LoRA, in student and target, does something and is exact in float16."""
    torch.manual_seed(0)
    unet = checkpoints.tiny_unet(block_out_channels=(16, 32, 32), norm_num_groups=8)
    text_encoder = checkpoints.tiny_text_encoder(TOKENS)
    made = Distillation(unet, text_encoder, torch.full((1, 77), TOKENS - 1), rank=4)
    with torch.no_grad():
        for weight in made.lora:
            weight.copy_((0.1 * torch.randn_like(weight)).half())
    made.target.update_parameters(made.lora)
    return made


@torch.no_grad()
def predict(unet: UNet2DConditionModel) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    x, hidden = (torch.randn(2, *shape, generator=random) for shape in ((4, 8, 8), (77, 128)))
    return unet(x, torch.tensor([999, 259]), hidden).sample


@pytest.mark.parametrize("timestep", [0, 19, 259, 999])
def test_scalings_are_those_of_the_lcm_scheduler(timestep: int) -> None:
    found = few_step.boundary_scalings(torch.tensor([timestep]))
    wanted = LCMScheduler().get_scalings_for_boundary_condition_discrete(timestep)
    assert [scaling.item() for scaling in found] == pytest.approx(wanted, rel=1e-6)


def test_clean_latents_are_their_own_answer(distillation: Distillation) -> None:
    x, hidden = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 128)
    with torch.no_grad():
        at_0, at_19 = (
            distillation.consistency(distillation.lora, x, torch.tensor([t, t]), hidden)
            for t in (0, 19)
        )
    assert torch.equal(at_0, x)
    assert not torch.allclose(at_19, x, atol=1e-3)


def test_the_student_answers_what_the_samplers_paint(distillation: Distillation) -> None:
    """One step of LCM sampling, by diffusers and by the runtime, is the consistency function."""
    x, hidden, t = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 128), torch.tensor([999])
    with torch.no_grad():
        found = distillation.consistency(distillation.target.module, x, t, hidden)
        noise = distillation.student(x, t, hidden).sample
    theirs = LCMScheduler.from_config(noise_scheduler().config)
    theirs.set_timesteps(1)
    torch.testing.assert_close(found, theirs.step(noise, 999, x).denoised)
    ours = schedulers.from_config(dict(theirs.config) | {"_class_name": "LCMScheduler"})
    ours.set_timesteps(1)
    painted = ours.step(noise.numpy(), 999, x.numpy())
    np.testing.assert_allclose(found.numpy(), painted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("timestep", [19, 39, 499, 999])
def test_the_solver_is_ddim(timestep: int) -> None:
    scheduler = noise_scheduler()
    scheduler.set_timesteps(50)
    x, noise = torch.randn(2, 1, 4, 8, 8)
    alpha_bars = scheduler.alphas_cumprod[[timestep, max(timestep - 20, 0)]]
    torch.testing.assert_close(
        few_step.ddim_step(x, noise, *alpha_bars),
        scheduler.step(noise, timestep, x).prev_sample,
    )


def test_the_solver_walks_the_lcm_schedulers_timesteps() -> None:
    scheduler = LCMScheduler()
    scheduler.set_timesteps(50)
    start, end = few_step.solver_timesteps(50)
    assert start.tolist() == scheduler.timesteps.tolist()[::-1]
    assert end.tolist() == [0, *start.tolist()[:-1]]


def test_the_teacher_is_guided(distillation: Distillation) -> None:
    x, hidden, t = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 128), torch.tensor([500])
    no_words = distillation.text_encoder(torch.full((1, 77), TOKENS - 1))[0]
    with torch.no_grad():
        found = distillation.guided_noise(x, t, hidden)
        guided, unguided = (distillation.teacher(x, t, h).sample for h in (hidden, no_words))
    torch.testing.assert_close(found, 4.0 * guided - 3.0 * unguided, rtol=1e-4, atol=1e-4)


def test_pseudo_huber_is_the_distance_of_what_is_far_apart() -> None:
    zeros = torch.zeros(8)
    assert few_step.pseudo_huber(zeros, zeros).item() == pytest.approx(0.0, abs=1e-9)
    assert few_step.pseudo_huber(zeros, zeros - 2.0).item() == pytest.approx(2.0, rel=1e-3)


def test_diffusers_reads_the_lora(
    distillation: Distillation, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    distillation.save(tmp_path)
    pipe = StableDiffusionPipeline.from_pretrained(tiny_checkpoint, unet=distillation.teacher)
    before, wanted = predict(distillation.teacher), predict(distillation.student)
    pipe.load_lora_weights(tmp_path)
    pipe.fuse_lora()
    torch.testing.assert_close(predict(pipe.unet), wanted, rtol=0, atol=1e-5)
    assert (wanted - before).abs().max() > 0.01


def test_the_lora_reaches_every_kind_of_layer(distillation: Distillation, tmp_path: Path) -> None:
    distillation.save(tmp_path)
    weights = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert {name.split(".")[0] for name in weights} == {"unet"}
    assert {name.split(".", 1)[1].split(".lora_")[0] for name in weights} == {
        name
        for name, part in distillation.teacher.named_modules()
        if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)
        and not name.startswith(("conv_in", "conv_out", "time_embedding"))
    }


@pytest.mark.slow
def test_a_student_far_from_its_target_comes_nearer(distillation: Distillation) -> None:
    with torch.no_grad():
        for weight in distillation.lora:
            weight.add_(torch.randn_like(weight), alpha=0.1)
    optimizer = torch.optim.Adam(distillation.lora.parameters(), 5e-3)
    found = []
    for _ in range(12):
        torch.manual_seed(0)  # the same noise; the target stands still
        loss = distillation.losses(RandomExamples(), 4, 0.0)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.7 * found[0], found


def test_the_few_step_stage_ends_in_a_folder_that_paints(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of training over invented latents, in a folder laid out as `work/`."""
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    shutil.copytree(tiny_checkpoint / "tokenizer", tmp_path / "tokenizer")
    scene = ((min(SUBJECTS, key=len),), min(STYLES, key=len), "white")
    latents = torch.randn(1, 4, 8, 8).half()
    encoded = {kind: ([scene], latents) for kind in ("single", "pair", "count")}
    torch.save(encoded, tmp_path / "latents.pt")
    for module in (checkpoint, diffusion, few_step, loop):
        monkeypatch.setattr(module, "WORK", tmp_path)
    options = ["--minutes", "1e-9", "--batch", "2", "--rank", "2", "--guidance", "3"]
    monkeypatch.setattr(sys, "argv", ["few_step", *options])
    few_step.main()

    folder = tmp_path / "few_step" / "checkpoint"
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    assert type(pipe.scheduler) is LCMScheduler
    assert pipe.scheduler.config.beta_start == noise_scheduler().config.beta_start
    assert json.loads((folder / "model_index.json").read_text())["vae"][1] == "AutoencoderKL"
    configs = list(folder.rglob("*config.json"))
    assert len(configs) >= 4
    for config in configs:
        assert "_name_or_path" not in config.read_text(), "a path of this machine"
    same = (folder / "tokenizer" / "vocab.json").read_bytes()
    assert same == (tiny_checkpoint / "tokenizer" / "vocab.json").read_bytes()
    reader = StableDiffusionPipeline.from_pretrained(tiny_checkpoint)
    untouched = predict(reader.unet)
    reader.load_lora_weights(tmp_path / "few_step")
    torch.testing.assert_close(predict(pipe.unet), predict(reader.unet), rtol=0, atol=1e-5)
    assert not torch.equal(predict(pipe.unet), untouched)


def small_vae(levels: int, **settings: float) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(16,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=4,
        **settings,
    )


@pytest.mark.parametrize("levels", [3, 4])
def test_the_tiny_autoencoder_has_the_shapes_of_the_vae_and_few_weights(levels: int) -> None:
    vae = small_vae(levels)
    tiny = tiny_decoder.build(vae)
    pixels = torch.zeros(1, 3, 32, 48)
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mean
        assert tiny.encode(pixels).latents.shape == latents.shape
        assert tiny.decode(latents).sample.shape == pixels.shape
    weights = sum(weight.numel() for weight in tiny.parameters())
    assert 100_000 < weights < 210_000
    assert tiny.config.scaling_factor == 1.0


def test_tiny_latents_are_scaled_ones() -> None:
    """An encoder that answers nothing is as far off as the VAE's scaled latents are large."""
    vae = small_vae(3, scaling_factor=7.0)
    tiny = tiny_decoder.build(vae)
    for weight in tiny.encoder.layers[-1].parameters():
        torch.nn.init.zeros_(weight)
    pixels = torch.rand(2, 3, 16, 16)
    mean = vae.encode(pixels).latent_dist.mean
    scalars = tiny_decoder.distillation_losses(tiny, vae, pixels)
    assert scalars["latents"].item() == pytest.approx(7.0 * mean.abs().mean().item(), rel=1e-4)


def test_psnr_by_hand() -> None:
    """An error of 0.2 among values from -1 to 1 is a tenth of the range: 20 dB."""
    pixels = torch.rand(1, 3, 8, 8) - 0.5
    assert tiny_decoder.psnr(pixels + 0.2, pixels) == pytest.approx(20.0, abs=1e-3)
    assert tiny_decoder.psnr(torch.full((8,), 9.0), torch.full((8,), 0.8)) == pytest.approx(
        20.0, abs=1e-3
    )


def test_the_tiny_stage_learns_the_vaes_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_vae(3).save_pretrained(tmp_path / "vae")
    for module in (tiny_decoder, loop):
        monkeypatch.setattr(module, "WORK", tmp_path)
    monkeypatch.setattr(tiny_decoder, "Renders", RandomRenders)
    monkeypatch.setattr(sys, "argv", ["tiny_decoder", "--minutes", "1e-9", "--batch", "2"])
    tiny_decoder.main()
    assert "tiny against VAE" in capsys.readouterr().out

    vae = AutoencoderKL.from_pretrained(tmp_path / "vae").requires_grad_(False)
    tiny = AutoencoderTiny.from_pretrained(tmp_path / "tiny_vae")
    renders = RandomRenders()
    renders.seed(0)
    pixels = renders.batch(4)
    optimizer = torch.optim.Adam(tiny.parameters(), 2e-3)
    found = []
    for _ in range(12):
        scalars = tiny_decoder.distillation_losses(tiny, vae, pixels)
        optimizer.zero_grad()
        scalars["loss"].backward()
        optimizer.step()
        found.append({name: scalar.item() for name, scalar in scalars.items()})
    assert found[-1]["l1"] < 0.7 * found[0]["l1"]
    assert found[-1]["latents"] < 0.9 * found[0]["latents"]
