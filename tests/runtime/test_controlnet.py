"""ControlNets are diffusers': from text, from pictures, one and several, by every argument."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from checkpoints import tiny_controlnet, tiny_inpainting
from pictures import hole, painting
from pleinair.export import export_model
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.images.canny import canny
from pleinair.runtime.model.controlnet import weighed
from references import NEGATIVE, PROMPT, differ, reference_scheduler

pytestmark = pytest.mark.usefixtures("compiled_once")


ENGINES = {"openvino": "exported_openvino", "onnxruntime": "exported_onnx"}
FOLLOWED, OTHER = painting(seed=4), painting(80, 72, seed=5)


@pytest.fixture(scope="module")
def controlnets(both: Any) -> list[tuple[Path, Path]]:
    return [both(f"net-{seed}", partial(tiny_controlnet, seed=seed)) for seed in (1, 2)]


@pytest.fixture(scope="module")
def checkpoints(controlnets: list[tuple[Path, Path]]) -> list[Path]:
    return [checkpoint for checkpoint, _ in controlnets]


@pytest.fixture(scope="module")
def folders(controlnets: list[tuple[Path, Path]]) -> list[Path]:
    return [folder for _, folder in controlnets]


@pytest.fixture(scope="module")
def nets(checkpoints: list[Path]) -> list[Any]:
    from diffusers import ControlNetModel

    return [ControlNetModel.from_pretrained(checkpoint) for checkpoint in checkpoints]


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(engine: str, request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(ENGINES[engine])


@pytest.fixture(scope="module")
def pipe(engine: str, model: Path, folders: list[Path]) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        model, engine=engine, device="cpu", controlnet=folders[0], profile="exact"
    )


def theirs(
    reference: Any, task: str, controlnet: Any, scheduler: str = "ddim", **arguments: Any
) -> np.ndarray:
    """What diffusers' StableDiffusionControlNet…Pipeline paints from seed 3."""
    import diffusers
    import torch

    kind = getattr(diffusers, f"StableDiffusionControlNet{task}Pipeline")
    parts = {"controlnet": controlnet, "requires_safety_checker": False}
    pipe = kind(**reference.components, **parts)
    pipe.scheduler = reference_scheduler(scheduler, pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(3)
    images = pipe(PROMPT, negative_prompt=NEGATIVE, generator=generator, **arguments).images
    return np.stack([np.asarray(image) for image in images])


def ours(pipe: StableDiffusionPipeline, scheduler: str = "ddim", **arguments: Any) -> list[Any]:
    return pipe(PROMPT, NEGATIVE, seed=3, scheduler=scheduler, **arguments).images


@pytest.mark.parametrize("scheduler", ["plms", "heun", "euler_a", "dpmpp_2m_karras"])
def test_from_text(
    pipe: StableDiffusionPipeline, reference: Any, nets: list[Any], scheduler: str
) -> None:
    # Heun takes two evaluations a step, and each is a step of its own to the window.
    common = {"num_inference_steps": 4, "control_guidance_start": 0.2, "control_guidance_end": 0.8}
    expected = theirs(reference, "", nets[0], scheduler, image=FOLLOWED, **common)
    painted = ours(pipe, scheduler, control_image=FOLLOWED, **common)
    assert differ(painted, expected) <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"controlnet_conditioning_scale": 0.4},
        {"controlnet_conditioning_scale": 0.0},
        {"control_guidance_start": 0.5},
        {"control_guidance_end": 0.34},
        {"guess_mode": True},
        {"guess_mode": True, "guidance_scale": 1.0},
        {"guidance_scale": 1.0},
        {"width": 72, "height": 104},  # latents 9 x 13; the picture is stretched
    ],
    ids=str,
)
def test_every_argument(
    pipe: StableDiffusionPipeline, reference: Any, nets: list[Any], arguments: dict[str, Any]
) -> None:
    arguments = {"num_inference_steps": 3, **arguments}
    expected = theirs(reference, "", nets[0], image=FOLLOWED, **arguments)
    assert differ(ours(pipe, control_image=FOLLOWED, **arguments), expected) <= 1


def test_the_arguments_matter(pipe: StableDiffusionPipeline) -> None:
    """Without this the cases above could all be of one picture."""
    cases = [
        {},
        {"controlnet_conditioning_scale": 0.4},
        {"control_guidance_start": 0.5},
        {"control_guidance_end": 0.34},
        {"guess_mode": True},
        {"control_image": OTHER, "width": 64, "height": 64},
    ]
    images = [
        np.asarray(ours(pipe, **{"control_image": FOLLOWED, "num_inference_steps": 3, **case})[0])
        for case in cases
    ]
    for i, image in enumerate(images):
        for other in images[:i]:
            assert np.abs(image.astype(int) - other).max() > 10


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_from_a_picture(
    pipe: StableDiffusionPipeline, reference: Any, nets: list[Any], strength: float
) -> None:
    """The window is of the steps that are taken, whatever the strength leaves of them."""
    common = {"num_inference_steps": 4, "strength": strength, "control_guidance_end": 0.6}
    pictures = {"image": painting(), "control_image": FOLLOWED}
    expected = theirs(reference, "Img2Img", nets[0], "euler_a", **pictures, **common)
    assert differ(ours(pipe, "euler_a", **pictures, **common), expected) <= 1


def test_under_a_mask(pipe: StableDiffusionPipeline, reference: Any, nets: list[Any]) -> None:
    arguments = {
        "image": painting(),
        "mask_image": hole(),
        "control_image": FOLLOWED,
        "num_inference_steps": 3,
        "strength": 0.9,
        "width": 64,
        "height": 64,
    }
    expected = theirs(reference, "Inpaint", nets[0], **arguments)
    assert differ(ours(pipe, **arguments), expected) <= 1


def test_several(
    engine: str, model: Path, folders: list[Path], reference: Any, nets: list[Any]
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(
        model,
        engine=engine,
        device="cpu",
        controlnet=[folders[0], f"{folders[1]}:0.5"],
        profile="exact",
    )
    common = {
        "num_inference_steps": 4,
        "control_guidance_start": [0.0, 0.5],
        "control_guidance_end": [0.75, 1.0],
    }
    pictures = [FOLLOWED, OTHER.resize((64, 64))]
    weights = {"controlnet_conditioning_scale": [0.9, 0.35]}
    expected = theirs(reference, "", nets, image=pictures, **common, **weights)
    weights["controlnet_conditioning_scale"][1] *= 2  # half of it is the folder's own weight
    assert differ(ours(pipe, control_image=pictures, **common, **weights), expected) <= 1


def test_a_batch(pipe: StableDiffusionPipeline, reference: Any, nets: list[Any]) -> None:
    arguments = {"control_image": FOLLOWED, "num_inference_steps": 3, "scheduler": "ddim"}
    batch = pipe([PROMPT, "boat"], NEGATIVE, seed=2, **arguments).images
    alone = pipe("boat", NEGATIVE, seed=3, **arguments).images
    assert np.array_equal(batch[1], alone[0])


def test_the_size_of_the_picture_followed(pipe: StableDiffusionPipeline) -> None:
    told: list[tuple[str, int, int]] = []
    arguments = {"num_inference_steps": 1, "output_type": "latent"}
    arguments["callback_on_stage"] = lambda *stage: told.append(stage)
    (latents,) = ours(pipe, control_image=painting(75, 82), **arguments)
    assert latents.shape == (1, 4, 10, 9)
    assert [stage for stage in told if stage[0] == "load"][-1] == ("load", 3, 3)


@pytest.mark.parametrize("form", ["openvino", "onnx"])
def test_folders_that_optimum_exported(
    form: str, folders: list[Path], reference: Any, nets: list[Any], request: Any
) -> None:
    model = request.getfixturevalue(f"optimum_{form}")
    engine = {"openvino": "openvino", "onnx": "onnxruntime"}[form]
    pipe = StableDiffusionPipeline.from_pretrained(
        model, engine=engine, device="cpu", controlnet=folders[0], profile="exact"
    )
    expected = theirs(reference, "", nets[0], image=FOLLOWED, num_inference_steps=3)
    painted = ours(pipe, control_image=FOLLOWED, num_inference_steps=3)
    assert differ(painted, expected) <= 1


def test_a_unet_made_for_inpainting(both: Any, folders: list[Path], nets: list[Any]) -> None:
    """The ControlNet sees the latents alone, not the mask beside them."""
    from diffusers import StableDiffusionInpaintPipeline

    checkpoint, folder = both("tiny-inpainting", tiny_inpainting, "openvino")
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, engine="openvino", controlnet=folders[0], profile="exact"
    )
    reference = StableDiffusionInpaintPipeline.from_pretrained(checkpoint)
    pictures = {"image": painting(), "mask_image": hole(), "control_image": FOLLOWED}
    common = {"num_inference_steps": 3, "width": 64, "height": 64, "strength": 1.0}
    expected = theirs(reference, "Inpaint", nets[0], **pictures, **common)
    assert differ(ours(pipe, **pictures, **common), expected) <= 1


def test_one_that_speaks_of_the_whole_picture(
    tmp_path: Path, exported_openvino: Path, reference: Any
) -> None:
    """global_pool_conditions, as "shuffle" has it; guess mode then comes by itself."""
    from diffusers import ControlNetModel

    checkpoint = tiny_controlnet(tmp_path / "pooled", global_pool_conditions=True)
    folder = export_model(checkpoint, tmp_path / "net", precision="fp32")
    pipe = StableDiffusionPipeline.from_pretrained(
        exported_openvino, controlnet=folder, profile="exact"
    )
    net = ControlNetModel.from_pretrained(checkpoint)
    expected = theirs(reference, "", net, image=FOLLOWED, num_inference_steps=3)
    painted = ours(pipe, control_image=FOLLOWED, num_inference_steps=3)
    assert differ(painted, expected) <= 1


def test_edges_are_found_at_the_size_painted(
    exported_openvino: Path, folders: list[Path], tmp_path: Path
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(
        exported_openvino, controlnet=folders[0], profile="exact"
    )
    painting(160, 144).save(tmp_path / "photo.png")
    scaled = painting(160, 144).resize((64, 64), Image.Resampling.LANCZOS)
    common = {"num_inference_steps": 2, "width": 64, "height": 64}
    for source, thresholds in (
        (f"canny:{tmp_path / 'photo.png'}", (100, 200)),
        (f"canny:30,80.5:{tmp_path / 'photo.png'}", (30, 80.5)),
    ):
        edges = canny(np.asarray(scaled), *thresholds)
        assert 0.02 < (edges > 0).mean() < 0.6
        painted = ours(pipe, control_image=source, **common)[0]
        assert np.array_equal(painted, ours(pipe, control_image=edges, **common)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"control_image": None}, "give control_image"),
        ({"control_image": [FOLLOWED, OTHER]}, "2 pictures for 1 ControlNets"),
        ({"control_image": "no/such.png"}, "no such picture"),
        ({"control_image": "canny:no/such.png"}, "no such picture"),
        ({"control_image": painting(5, 5)}, "control_image is 5x5"),
        ({"controlnet_conditioning_scale": -1}, "controlnet_conditioning_scale is -1"),
        ({"controlnet_conditioning_scale": float("nan")}, "controlnet_conditioning_scale is nan"),
        ({"controlnet_conditioning_scale": [1, 2]}, "has 2 numbers for 1"),
        ({"control_guidance_start": 0.5, "control_guidance_end": 0.5}, "start < end"),
        ({"control_guidance_start": -0.1}, "start is -0.1"),
        ({"control_guidance_end": 1.1}, "end 1.1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_one_line(
    exported_openvino: Path, folders: list[Path], arguments: dict[str, Any], message: str
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(
        exported_openvino, controlnet=folders[0], profile="exact"
    )
    told: list[Any] = []
    with pytest.raises(SettingError, match=message) as caught:
        pipe(
            "boat",
            **{"control_image": FOLLOWED, **arguments},
            callback_on_stage=lambda *stage: told.append(stage),
        )
    assert "\n" not in str(caught.value)
    assert told == []


@pytest.mark.parametrize(
    "arguments",
    [{"control_image": FOLLOWED}, {"controlnet_conditioning_scale": 1.0}, {"guess_mode": True}],
    ids=lambda arguments: next(iter(arguments)),
)
def test_nothing_to_follow_it(exported_openvino: Path, arguments: dict[str, Any]) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(exported_openvino, profile="exact")
    with pytest.raises(SettingError, match="open the model with controlnet"):
        pipe("boat", **arguments)


def edited(folder: Path, target: Path, **values: Any) -> Path:
    """A copy of a ControlNet's folder whose config says something else."""
    copy = shutil.copytree(folder, target)
    (copy / "pleinair.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | values))
    return copy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cross_attention_dim": 768}, "cross_attention_dim 768 instead of 128"),
        ({"block_out_channels": [32, 64]}, "another kind of model than tiny-openvino"),
        ({"layers_per_block": 2}, "layers_per_block 2 instead of 1"),
        ({"in_channels": 9}, "9 channels instead of 4"),
        ({"conditioning_channels": 4}, "pictures of 4 channels"),
        ({"_class_name": "UNet2DConditionModel"}, "a UNet2DConditionModel; only a ControlNet"),
    ],
    ids=str,
)
def test_a_controlnet_that_does_not_fit(
    exported_openvino: Path,
    folders: list[Path],
    tmp_path: Path,
    values: dict[str, Any],
    message: str,
) -> None:
    net = edited(folders[0], tmp_path / "net", **values)
    with pytest.raises(BundleError, match=message) as caught:
        StableDiffusionPipeline.from_pretrained(exported_openvino, controlnet=net, profile="exact")
    assert "\n" not in str(caught.value)


def test_folders_that_are_none(
    exported_onnx: Path, checkpoints: list[Path], folders: list[Path], tmp_path: Path
) -> None:
    def opened(net: Path) -> None:
        StableDiffusionPipeline.from_pretrained(exported_onnx, controlnet=net, profile="exact")

    with pytest.raises(BundleError, match="no such ControlNet folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="convert it with: pleinair-export"):
        opened(checkpoints[0])
    with pytest.raises(BundleError, match="no ControlNet's folder"):
        opened(exported_onnx)
    broken = shutil.copytree(folders[0], tmp_path / "broken")
    with (broken / "model.onnx").open("ab") as file:
        file.truncate(1000)
    with pytest.raises(BundleError, match=r"1,000 bytes where pleinair\.json says"):
        opened(broken)
    lone = shutil.copytree(folders[0], tmp_path / "lone")
    for file in ("model.onnx", "pleinair.json"):
        (lone / file).unlink()
    with pytest.raises(BundleError, match="holds no ControlNet as onnx"):
        StableDiffusionPipeline.from_pretrained(
            exported_onnx, engine="onnxruntime", controlnet=lone, profile="exact"
        )


def test_a_folder_and_its_weight(tmp_path: Path) -> None:
    odd = tmp_path / "net:0.5"
    assert weighed("net:0.5") == (Path("net"), 0.5)
    assert weighed(("net", 2.0)) == (Path("net"), 2.0)
    assert weighed("C:\\nets\\canny") == (Path("C:\\nets\\canny"), 1.0)
    if odd.parent.drive == "":  # Windows has no colons in names
        odd.mkdir()
        assert weighed(odd) == (odd, 1.0)


def test_the_command_line(
    exported_openvino: Path,
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    OTHER.save("photo.png")
    model = ["--model", str(exported_openvino), "--prompt", "boat"]
    nets = ["--controlnet", f"{folders[0]}:0.8", "--control-image", "canny:photo.png"]
    flags = ["--control-scale", "0.5", "--control-start", "0.2", "--control-end", "0.9"]
    flags += ["--steps", "3", "--seed", "7", "--guess-mode"]
    assert main([*model, *nets, *flags, "--output", "a.png"]) == 0
    pipe = StableDiffusionPipeline.from_pretrained(
        exported_openvino, controlnet=(folders[0], 0.4), profile="exact"
    )
    expected = pipe(
        "boat",
        seed=7,
        num_inference_steps=3,
        control_image="canny:photo.png",
        control_guidance_start=0.2,
        control_guidance_end=0.9,
        guess_mode=True,
    ).images[0]
    assert expected.size == OTHER.size
    assert np.array_equal(Image.open("a.png"), expected)
    # The file says the numbers; which pictures and folders to open is the user's to say.
    again = [*nets, "--guess-mode", "--model", str(exported_openvino)]
    assert main([*again, "--params-from", "a.png", "--output", "b.png"]) == 0
    assert np.array_equal(Image.open("a.png"), Image.open("b.png"))
    capsys.readouterr()
    for wrong in ([*nets[:2]], [*nets[2:]], [*nets, *nets[2:]], [*nets, "--control-end", "0"]):
        assert main([*model, *wrong, "--output", "c.png"]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(errors) == 1
    assert not Path("c.png").exists()


def test_lines_of_a_prompt_file(
    exported_openvino: Path,
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each may have its own scale; with another picture to follow it is another job."""
    monkeypatch.chdir(tmp_path)
    FOLLOWED.save("followed.png")
    Path("prompts.txt").write_text("boat --control-scale 0.3\nboat\n")
    job = ["--model", str(exported_openvino), "--from-file", "prompts.txt", "--seed", "1"]
    job += ["--controlnet", str(folders[0]), "--control-image", "canny:followed.png"]
    job += ["--steps", "1", "--skip_grid", "--outdir", "out"]
    assert main(job) == 0
    weak, whole = (np.asarray(Image.open(f"out/samples/0000{i}.png")) for i in (0, 1))
    assert not np.array_equal(weak, whole)
    assert main(job) == 0
    assert len(list(Path("out/samples").iterdir())) == 2
    OTHER.resize((64, 64)).save("followed.png")
    assert main(job) == 0
    assert len(list(Path("out/samples").iterdir())) == 4
