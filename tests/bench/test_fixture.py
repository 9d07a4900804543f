"""The random checkpoint is what it claims to be: the published shape, readable, finite."""

import shutil
from pathlib import Path

import pytest

from pleinair.bench import fixture
from pleinair.bench.__main__ import main
from pleinair.runtime.errors import ExportError

# Counted from the published weights of CompVis/stable-diffusion-v1-4.
PUBLISHED = {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863}
# And from those of stabilityai/stable-diffusion-xl-base-1.0.
PUBLISHED_LCM = PUBLISHED | {"unet": PUBLISHED["unet"] + 320 * 256}  # one layer more
PUBLISHED_XL = PUBLISHED | {"text_encoder_2": 694_659_840, "unet": 2_567_463_684}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixture") / "tiny"
    fixture.write(folder, fixture.SHAPES["tiny"])
    return folder


@pytest.mark.parametrize(
    ("shape", "published"),
    [("sd-v1.4", PUBLISHED), ("lcm", PUBLISHED_LCM), ("sdxl", PUBLISHED_XL)],
)
def test_the_shapes_have_the_published_numbers_of_parameters(
    shape: str, published: dict[str, int]
) -> None:
    from pleinair.export import architecture

    counted = {
        name: architecture.count_parameters(network)
        for name, network in fixture.skeletons(fixture.SHAPES[shape]).items()
    }
    assert counted == published


# Millions of weights in the UNets, as their authors round them or their files' sizes tell.
SMALL = {
    "bk-sdm-base": 579,
    "bk-sdm-small": 482,
    "bk-sdm-tiny": 323,
    "sd-turbo": 866,
    "sdxs": 328,
    "sdxs-dreamshaper": 316,
    "ssd-1b": 1331,
    "vega": 745,
}


@pytest.mark.parametrize("shape", SMALL)
def test_small_unets_have_the_published_size(shape: str) -> None:
    from pleinair.export import architecture

    config = fixture.SHAPES[shape].unet
    unet = architecture.build("diffusers.UNet2DConditionModel", config, shape)
    assert round(architecture.count_parameters(unet) / 1e6) == SMALL[shape]
    if shape == "vega":  # of which its authors count each part
        parts = (unet.down_blocks, unet.mid_block, unet.up_blocks)
        counted = [round(architecture.count_parameters(part) / 1e6) for part in parts]
        assert counted == [247, 31, 460]


def test_a_tiny_autoencoder_of_taesd_s_shape(tmp_path: Path) -> None:
    import torch
    from diffusers import AutoencoderTiny

    from pleinair.export.tiny_vae import open_tiny_vae

    assert main(["fixture", str(tmp_path / "taesd"), "--shape", "taesd"]) == 0
    open_tiny_vae(tmp_path / "taesd").require_fit(fixture.SHAPES["lcm"].vae)
    module = AutoencoderTiny.from_pretrained(tmp_path / "taesd").float()
    assert sum(weight.numel() for weight in module.parameters()) == 2_445_063
    with torch.inference_mode():
        picture = module.decode(torch.randn(1, 4, 8, 8)).sample
    assert picture.shape == (1, 3, 64, 64)
    assert picture.isfinite().all()
    assert main(["fixture", str(tmp_path / "taesd"), "--shape", "taesd"]) == 2


def test_diffusers_paints_with_it(written: Path) -> None:
    import numpy as np
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(written, safety_checker=None)
    pipe.to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe.scheduler).__name__ == "PNDMScheduler"
    # CLIP's ids, known from any Stable Diffusion 1 checkpoint.
    assert pipe.tokenizer("a photo of a cat").input_ids == [
        49406, 320, 1125, 539, 320, 2368, 49407,
    ]  # fmt: skip
    image = pipe(
        "a cat",
        num_inference_steps=3,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images[0]
    assert np.isfinite(image).all()
    assert image.std() > 0.01


@pytest.mark.parametrize("shape", ["tiny", "tiny-xl"])
def test_weights_are_all_there_in_half_precision(tmp_path: Path, shape: str) -> None:
    import torch
    from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
    from safetensors.torch import load_file
    from transformers.utils import SAFE_WEIGHTS_NAME

    from pleinair.export.weights import load

    written = tmp_path / shape
    fixture.write(written, fixture.SHAPES[shape])
    for name, network in fixture.skeletons(fixture.SHAPES[shape]).items():
        by_transformers = name.startswith("text_encoder")
        file = SAFE_WEIGHTS_NAME if by_transformers else SAFETENSORS_WEIGHTS_NAME
        weights = load_file(written / name / file)
        assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
        load(network, weights, name)  # strict: raises


def test_same_seed_same_bytes(written: Path, tmp_path: Path) -> None:
    for folder, seed in (("again", 0), ("other", 1)):
        fixture.write(tmp_path / folder, fixture.SHAPES["tiny"], seed)
    file = Path("unet") / "diffusion_pytorch_model.safetensors"
    assert (tmp_path / "again" / file).read_bytes() == (written / file).read_bytes()
    assert (tmp_path / "other" / file).read_bytes() != (written / file).read_bytes()


def test_refuses_an_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(ExportError, match="exists"):
        fixture.write(tmp_path / "mine", fixture.SHAPES["tiny"])
    assert (tmp_path / "mine" / "notes.txt").read_text(encoding="utf-8") == "keep"


def test_refuses_a_full_disk_and_says_how_much_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_000_000_000))
    with pytest.raises(ExportError, match=r"2\.1 GB"):
        fixture.write(tmp_path / "big", fixture.SHAPES["sd-v1.4"])
    assert list(tmp_path.iterdir()) == []


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    def stop(what: str, share: float) -> None:
        if what == "tokenizer":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fixture.write(tmp_path / "half", fixture.SHAPES["tiny"], report=stop)
    assert list(tmp_path.iterdir()) == []
