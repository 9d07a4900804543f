"""Every kind of single file: what it is, its weights by name and value, parts from elsewhere."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import single_files
from checkpoints import compvis_state, tiny_stable_diffusion, values_of
from pleinair.bench import fixture
from pleinair.export import architecture, compvis, ema, families, weights
from pleinair.export.checkpoint import open_checkpoint
from pleinair.export.families import stable_diffusion, upscaler, xl
from pleinair.export.families.original import UNET, Original
from pleinair.export.single_file import SingleFile
from pleinair.runtime.errors import SourceError
from pleinair.runtime.text.tokenizer import ClipTokenizer

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion 1, with diffusers' weights in the folder."""
    target = tmp_path_factory.mktemp("kinds") / "tiny-1"
    return tiny_stable_diffusion(target, clip_vocabulary=True)


@pytest.fixture(scope="module")
def state(folder: Path) -> State:
    return compvis_state(folder)


@pytest.fixture(scope="module")
def folder_2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return single_files.tiny_version_2(tmp_path_factory.mktemp("kinds") / "tiny-2")


@pytest.fixture(scope="module")
def state_2(folder_2: Path) -> State:
    return single_files.version_2_state(folder_2)


def _saved(state: State, file: Path, **said: str) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, file, metadata=said)
    return file


def _loaded(checkpoint: Any, name: str) -> dict[str, torch.Tensor]:
    module = architecture.build(
        stable_diffusion.FAMILY.submodels[name].cls, checkpoint.config(name), name
    )
    weights.load(module, checkpoint.weights(name), name)
    return values_of(module)


def _same(found: Any, wanted: Any) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


_KINDS: dict[str, tuple[Callable[[], dict[str, Any]], Original]] = {
    "xl": (single_files.xl_models, xl.XL),
    "refiner": (single_files.refiner_models, xl.REFINER),
    "upscaler": (single_files.upscaler_models, upscaler.UPSCALER),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_weights_and_architecture_of_the_later_kinds(tmp_path: Path, kind: str) -> None:
    """Each network is rebuilt from the file alone, and computes what the original does."""
    models, expected = _KINDS[kind][0](), _KINDS[kind][1]
    state = single_files.whole_state(models, dict(expected.prefixes))
    _agrees_with_diffusers(state, models, expected)
    if kind == "upscaler":  # its last layer is left out, as version 2's
        models["text_encoder"] = _without_last_layer(models["text_encoder"])
    checkpoint = SingleFile(_saved(state, tmp_path / f"{kind}.safetensors"))
    assert checkpoint.original is expected
    for name, model in models.items():
        built = (
            type(model)(type(model.config).from_dict(checkpoint.config(name)))
            if (name.startswith("text_encoder"))
            else type(model).from_config(checkpoint.config(name))
        )
        found = checkpoint.weights(name)
        weights.load(built, found, name)
        assert _same(values_of(built), model.state_dict()), name
        with torch.no_grad():
            assert torch.allclose(_answer(built), _answer(model.eval()), atol=1e-5), name


def _without_last_layer(model: Any) -> Any:
    config = type(model.config).from_dict(model.config.to_dict() | {"num_hidden_layers": 2})
    shorter = type(model)(config)
    state = model.state_dict()
    shorter.load_state_dict({key: state[key] for key in shorter.state_dict()})
    return shorter


def _agrees_with_diffusers(state: State, models: Any, kind: Original) -> None:
    """The names under test are those that diffusers' own converter reads."""
    from diffusers.loaders import single_file_utils as theirs

    for name, model in models.items():
        prefix = kind.prefixes[name]
        if name == "unet":
            found = theirs.convert_ldm_unet_checkpoint(dict(state), model.config)
        elif name == "vae":
            found = theirs.convert_ldm_vae_checkpoint(dict(state), model.config)
        elif prefix.endswith(".model."):
            found = theirs.convert_open_clip_checkpoint(model, dict(state), prefix)
        else:
            found = theirs.convert_ldm_clip_checkpoint(dict(state))
        bare = {key.removeprefix("text_model."): value for key, value in found.items()}
        wanted = {k.removeprefix("text_model."): v for k, v in model.state_dict().items()}
        # Its table of OpenCLIP's names leaves the fused width to `text_projection`.
        assert bare.keys() == wanted.keys(), name
        if not (prefix.endswith(".model.") and "text_projection.weight" in wanted):
            assert _same(bare, wanted), name


def _answer(model: Any) -> torch.Tensor:
    """What a network computes from inputs that are the same for all of its shape."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    config = model.config
    if hasattr(config, "vocab_size"):
        ids = torch.arange(2 * 9).reshape(2, 9) % config.vocab_size
        output = model(ids, output_hidden_states=True)
        pooled = output[0] if "text_embeds" in output else output.pooler_output
        return torch.cat([pooled.flatten(), output.hidden_states[-2].flatten()])
    if hasattr(config, "latent_channels"):
        return model(noise(1, 3, 16, 16)).sample
    conditions: dict[str, Any] = {}
    if config.addition_embed_type:
        ids = config.projection_class_embeddings_input_dim - 96
        sizes = torch.arange(ids // config.addition_time_embed_dim)[None]
        conditions["added_cond_kwargs"] = {"text_embeds": noise(1, 96), "time_ids": sizes}
    if config.num_class_embeds:
        conditions["class_labels"] = torch.tensor([3])
    sample = noise(1, config.in_channels, 8, 8)
    return model(sample, 5, noise(1, 7, config.cross_attention_dim), **conditions).sample


# The UNets as they are published: widths, heads, levels with attention, and what else differs.
_PUBLISHED: dict[str, tuple[Original, tuple[int, ...], Any, str, dict[str, Any]]] = {
    "v2": (stable_diffusion.SD2, (320, 640, 1280, 1280), [5, 10, 20, 20], "1110", {}),
    "xl": (
        xl.XL,
        (320, 640, 1280),
        [5, 10, 20],
        "011",
        {
            "cross_attention_dim": 2048,
            "transformer_layers_per_block": [1, 2, 10],
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    ),
    "refiner": (
        xl.REFINER,
        (384, 768, 1536, 1536),
        [6, 12, 24, 24],
        "0110",
        {
            "cross_attention_dim": 1280,
            "transformer_layers_per_block": 4,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2560,
        },
    ),
    "upscaler": (
        upscaler.UPSCALER,
        (256, 512, 512, 1024),
        8,
        "0111",
        {"in_channels": 7, "num_class_embeds": 1000, "only_cross_attention": [True] * 3 + [False]},
    ),
}
# Small UNets, as bench.fixture has them.
_SMALL = {
    "sd-turbo": stable_diffusion.SD2,
    "bk-sdm-base": stable_diffusion.SD1,
    "bk-sdm-small": stable_diffusion.SD1,
    "bk-sdm-tiny": stable_diffusion.SD1,
    "sdxs": stable_diffusion.SD2,
    "sdxs-dreamshaper": stable_diffusion.SD1,
    "ssd-1b": xl.XL,
    "vega": xl.XL,
}


def _as_version_1(key: str, config: Any) -> str:
    """diffusers' convert_diffusers_to_original_stable_diffusion.py, of the layers that can move.

    It counts three blocks a level whatever there are, and has no name for attention in up_blocks.0.
    """
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", key)
    if found is None or found[3] == "downsamplers":
        name = compvis.unet_key(key, config)
        end = key.rpartition(".")[2]
        return name if found is None else f"input_blocks.{3 * int(found[2]) + 3}.0.op.{end}"
    side, level, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "upsamplers":
        return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 2}.{rest}"
    if (side, level, kind) == ("up", 0, "attentions") and not config.addition_embed_type:
        return key
    block = 3 * level + number + (side == "down")
    dense = compvis.unet_key(key, config)
    return re.sub(r"^(\w+)\.\d+\.", rf"\1.{block}.", dense)


@pytest.mark.parametrize("counted", ["through", "as version 1"])
@pytest.mark.parametrize("shape", _SMALL)
def test_small_unets(shape: str, counted: str) -> None:
    """Blocks and attentions that were taken out are told by what is there; so are gaps."""
    from diffusers import UNet2DConditionModel

    config = fixture.SHAPES[shape].unet
    name = compvis.unet_key if counted == "through" else _as_version_1
    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(config)
        original = model.state_dict()
        state = {name(key, model.config): value for key, value in original.items()}
        state = compvis.unet_part(state)
        found = compvis.unet_config(state)
        renamed = compvis.renamed("unet", state, found, "", shape)
        built = UNet2DConditionModel.from_config(found).state_dict()
    assert len(state) == len(original)
    assert {key: v.shape for key, v in built.items()} == {k: v.shape for k, v in original.items()}
    assert {key: v.shape for key, v in renamed.items()} == {k: v.shape for k, v in built.items()}
    told = ("block_out_channels", "down_block_types", "up_block_types", "layers_per_block")
    told += ("mid_block_type", "only_cross_attention", "cross_attention_dim")
    assert [found.get(key, False) for key in told] == [model.config[key] for key in told]
    heads = [attention.heads for attention in _attentions(model)]
    with torch.device("meta"):
        assert heads == [one.heads for one in _attentions(UNet2DConditionModel.from_config(found))]
    assert families.detect({f"{UNET}{key}": v for key, v in state.items()})[1] is _SMALL[shape]


def _attentions(model: Any) -> list[Any]:
    return [module for name, module in model.named_modules() if name.endswith(("attn1", "attn2"))]


def test_sd_turbo_s_own_file(folder_2: Path, state_2: State, tmp_path: Path) -> None:
    """Version 2 with its text encoder under a later name; it predicts noise, and takes one step."""
    moved = {
        key.replace("cond_stage_model.model.", "conditioner.embedders.0.model."): value
        for key, value in state_2.items()
    }
    checkpoint = SingleFile(_saved(moved, tmp_path / "sd_turbo.safetensors"))
    assert checkpoint.original is stable_diffusion.SD_TURBO
    scheduler = checkpoint.scheduler()
    assert scheduler["_class_name"] == "EulerDiscreteScheduler"
    assert scheduler["prediction_type"] == "epsilon"
    assert scheduler["timestep_spacing"] == "trailing"
    assert checkpoint.config("unet")["sample_size"] == 64
    assert checkpoint.recommended() == {"steps": 1, "guidance_scale": 0.0}
    original = open_checkpoint(folder_2)
    for name in stable_diffusion.FAMILY.submodels:
        assert _same(_loaded(checkpoint, name), _loaded(original, name)), name


@pytest.mark.parametrize("kind", _PUBLISHED)
def test_the_true_shapes(kind: str) -> None:
    """The published architectures, without their weights, come out of their shapes alone."""
    from diffusers import UNet2DConditionModel

    expected, widths, heads, attends, more = _PUBLISHED[kind]
    settings = {
        "block_out_channels": widths,
        "attention_head_dim": heads,
        "down_block_types": ["CrossAttn" * (a == "1") + "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttn" * (a == "1") + "UpBlock2D" for a in attends[::-1]],
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    }
    with torch.device("meta"):
        model = UNet2DConditionModel(**(settings | more))
        original = model.state_dict()
        renamed = {compvis.unet_key(key, model.config): v for key, v in original.items()}
        found = compvis.unet_config(renamed)
        built = UNet2DConditionModel.from_config(found).state_dict()
    assert {key: v.shape for key, v in built.items()} == {k: v.shape for k, v in original.items()}
    told = ("attention_head_dim", "cross_attention_dim", "down_block_types", "in_channels")
    assert [found[key] for key in told] == [model.config[key] for key in told]
    assert found.get("addition_time_embed_dim") == model.config.addition_time_embed_dim
    prefixed = {f"{UNET}{key}": value for key, value in renamed.items()}
    assert families.detect(prefixed)[1] is expected


def test_version_2(folder_2: Path, state_2: State, tmp_path: Path) -> None:
    checkpoint = SingleFile(_saved(state_2, tmp_path / "two.safetensors"))
    original = open_checkpoint(folder_2)
    assert checkpoint.original is stable_diffusion.SD2
    assert checkpoint.model_index()["_class_name"] == "StableDiffusionPipeline"
    told_apart = ("hidden_act", "num_hidden_layers", "num_attention_heads", "pad_token_id")
    for key in told_apart:
        assert checkpoint.config("text_encoder")[key] == original.config("text_encoder")[key]
    assert checkpoint.config("unet")["attention_head_dim"] == [1, 1, 1]
    for name in stable_diffusion.FAMILY.submodels:
        assert _same(_loaded(checkpoint, name), _loaded(original, name)), name
    checkpoint.write_tokenizer(tmp_path / "tokenizer")
    theirs = ClipTokenizer(folder_2 / "tokenizer")("a red apple").ids
    assert ClipTokenizer(tmp_path / "tokenizer")("a red apple").ids.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("marks", "said", "prediction", "is_assumed"),
    [
        ({}, {}, "v_prediction", True),
        ({}, {"prediction_type": "epsilon"}, "epsilon", False),
        ({}, {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
        ({}, {"modelspec.prediction_type": "v"}, "v_prediction", False),
        ({"v_pred": torch.zeros(0)}, {}, "v_prediction", False),
    ],
)
def test_the_prediction_type_of_version_2(
    state_2: State,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    marks: State,
    said: dict[str, str],
    prediction: str,
    is_assumed: bool,
) -> None:
    logging.getLogger("pleinair.export").propagate = True
    chosen = said.pop("prediction_type", None)
    file = _saved(state_2 | marks, tmp_path / "two.safetensors", **said)
    with caplog.at_level(logging.INFO, "pleinair.export"):
        checkpoint = SingleFile(file, prediction_type=chosen)
    assert checkpoint.scheduler()["prediction_type"] == prediction
    assert checkpoint.config("unet")["sample_size"] == (96 if prediction == "v_prediction" else 64)
    lines = [record.getMessage() for record in caplog.records]
    assert bool(lines) == is_assumed
    assert all("--prediction-type epsilon" in line for line in lines)


def test_the_step_of_training_tells_the_base_model(state_2: State, tmp_path: Path) -> None:
    file = tmp_path / "512-base-ema.ckpt"
    torch.save({"state_dict": state_2, "global_step": 875_000}, file)
    assert SingleFile(file).scheduler()["prediction_type"] == "epsilon"


def test_what_is_not_for_single_files(folder: Path) -> None:
    for option in ({"ema": True}, {"prediction_type": "epsilon"}):
        with pytest.raises(SourceError, match="is no single file"):
            open_checkpoint(folder, **option)


@pytest.mark.parametrize(("channels", "task"), [(9, "Inpaint"), (8, "InstructPix2Pix"), (5, "")])
def test_the_task_is_told_by_the_channels(
    state: State, tmp_path: Path, channels: int, task: str
) -> None:
    first = "model.diffusion_model.input_blocks.0.0.weight"
    wider = state | {first: torch.zeros(32, channels, 3, 3)}
    checkpoint = SingleFile(_saved(wider, tmp_path / "task.safetensors"))
    assert checkpoint.config("unet")["in_channels"] == channels
    if task:
        assert checkpoint.model_index()["_class_name"] == f"StableDiffusion{task}Pipeline"
    else:
        with pytest.raises(SourceError, match="UNet of 5 channels"):
            checkpoint.model_index()


def test_stray_keys_of_merges_are_left_out(state: State, tmp_path: Path) -> None:
    strays = (
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "cond_stage_model.transformer.text_projection.weight",
        "cond_stage_model.logit_scale",
        "alphas_cumprod_prev",
        "sqrt_recip_alphas_cumprod",
        "posterior_mean_coef1",
        "model_ema.decay",
        "first_stage_model.loss.logvar",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",
        "lora_unet_mid_block_attentions_0.lora_up.weight",
    )
    merged = state | {name: torch.ones(3) for name in strays}
    checkpoint = SingleFile(_saved(merged, tmp_path / "merge.safetensors"))
    clean = SingleFile(_saved(state, tmp_path / "clean.safetensors"))
    for name in stable_diffusion.FAMILY.submodels:
        assert checkpoint.weights(name).keys() == clean.weights(name).keys() != set()


def _averages(state: State) -> State:
    """What training saves beside the UNet; twice its weights, to tell them apart."""
    names = [key for key in state if key.startswith("model.diffusion_model.")]
    named = {f"model_ema.{key[6:].replace('.', '')}": state[key] * 2 for key in names}
    return named | {"model_ema.decay": torch.tensor(0.9999)}


@pytest.mark.parametrize("form", ["beside", "only"])
def test_running_averages(folder: Path, state: State, tmp_path: Path, form: str) -> None:
    whole = state | _averages(state)
    if form == "only":
        whole = {key: v for key, v in whole.items() if not key.startswith("model.diffusion")}
    file = _saved(whole, tmp_path / "ema.safetensors")
    found = _loaded(open_checkpoint(file, ema=form == "beside"), "unet")
    plain = _loaded(open_checkpoint(folder), "unet")
    assert _same(found, {key: value * 2 for key, value in plain.items()})
    if form == "beside":
        assert _same(_loaded(open_checkpoint(file), "unet"), plain)


def test_no_running_averages(state: State, tmp_path: Path) -> None:
    file = _saved(state, tmp_path / "plain.safetensors")
    with pytest.raises(SourceError, match=r"no running averages .*--ema"):
        open_checkpoint(file, ema=True)


def test_names_without_dots_are_told_apart() -> None:
    for models in (single_files.xl_models(), single_files.upscaler_models()):
        state = single_files.whole_state({"unet": models["unet"]}, {"unet": ""})
        for name in [*state, "input_blocks.11.0.in_layers.0.weight", "out.2.bias"]:
            assert ema.dotted(name.replace(".", "")) == name


_VAES = ["whole folder", "folder", "file of a folder", "file", "named file", "bare", "pickle"]


@pytest.mark.parametrize("form", _VAES)
def test_a_vae_from_elsewhere(state: State, folder: Path, tmp_path: Path, form: str) -> None:
    prefix = "first_stage_model."
    without = {key: value for key, value in state.items() if not key.startswith(prefix)}
    file = _saved(without, tmp_path / "no-vae.safetensors")
    brought = folder / "vae" / "diffusion_pytorch_model.safetensors"
    vae = {key: value * 1.5 for key, value in load_file(brought).items()}
    other = tmp_path / "other"
    tiny = {key.removeprefix(prefix): v * 1.5 for key, v in state.items() if prefix in key}
    tiny |= {"loss.logvar": torch.zeros(1)}
    scale = 0.18215
    if "folder" in form:
        (other / "vae").mkdir(parents=True)
        config = json.loads((folder / "vae" / "config.json").read_text())
        scale = 0.5
        (other / "vae" / "config.json").write_text(json.dumps(config | {"scaling_factor": scale}))
        save_file(vae, other / "vae" / brought.name)
        (other / "model_index.json").write_text("{}")
    if form == "whole folder":
        given = other
    elif form == "folder":
        given = other / "vae"
    elif form == "file of a folder":
        given = other / "vae" / brought.name
    elif form == "file":
        given = _saved(vae, tmp_path / "diffusers.safetensors")
    elif form == "named file":
        given = _saved({prefix + k: v for k, v in tiny.items()}, tmp_path / "vae.safetensors")
    elif form == "bare":
        given = _saved(tiny, tmp_path / "vae.safetensors")
    else:
        given = tmp_path / "kl-f8.vae.pt"
        torch.save({"state_dict": tiny}, given)
    checkpoint = open_checkpoint(file, vae=given)
    assert checkpoint.config("vae")["scaling_factor"] == scale
    assert checkpoint.record["vae"].startswith(given.name if form != "file of a folder" else "vae")
    assert _same(_loaded(checkpoint, "vae"), vae)


@pytest.mark.parametrize("form", ["whole folder", "folder", "whole file", "bare"])
def test_a_text_encoder_from_elsewhere(
    state_2: State, folder_2: Path, tmp_path: Path, form: str
) -> None:
    without = {key: v for key, v in state_2.items() if not key.startswith("cond_stage_model.")}
    file = _saved(without, tmp_path / "no-text.safetensors")
    prefix = "cond_stage_model.model."
    given = {
        "whole folder": folder_2,
        "folder": folder_2 / "text_encoder",
        "whole file": tmp_path / "whole.safetensors",
        "bare": tmp_path / "bare.safetensors",
    }[form]
    if form == "whole file":
        _saved(state_2, given)
    elif form == "bare":
        _saved({k.removeprefix(prefix): v for k, v in state_2.items() if prefix in k}, given)
    checkpoint = open_checkpoint(file, text_encoder=given)
    assert _same(
        _loaded(checkpoint, "text_encoder"), _loaded(open_checkpoint(folder_2), "text_encoder")
    )
    checkpoint.write_tokenizer(tmp_path / "tokenizer")
    assert ClipTokenizer(tmp_path / "tokenizer").pad == 0


def test_parts_that_are_none(state: State, tmp_path: Path) -> None:
    file = _saved(state, tmp_path / "one.safetensors")
    wrong = _saved({"x": torch.zeros(2)}, tmp_path / "wrong.safetensors")
    with pytest.raises(SourceError, match=r"wrong\.safetensors holds no vae"):
        open_checkpoint(file, vae=wrong)
    with pytest.raises(SourceError, match=r"nowhere is neither"):
        open_checkpoint(file, text_encoder=tmp_path / "nowhere")


def test_xl_is_told_what_its_pipeline_is(tmp_path: Path) -> None:
    state = single_files.whole_state(single_files.xl_models(), dict(xl.XL.prefixes))
    checkpoint = SingleFile(_saved(state, tmp_path / "xl.safetensors"))
    index = checkpoint.model_index()
    assert index["_class_name"] == "StableDiffusionXLPipeline"
    assert index["text_encoder_2"][1] == "CLIPTextModelWithProjection"
    assert checkpoint.scheduler()["_class_name"] == index["scheduler"][1]
    assert checkpoint.config("unet")["sample_size"] == 128
    assert checkpoint.config("vae")["scaling_factor"] == 0.13025


def test_the_upscaler_is_told_how_its_small_picture_is_noised(tmp_path: Path) -> None:
    prefixes = dict(upscaler.UPSCALER.prefixes)
    state = single_files.whole_state(single_files.upscaler_models(), prefixes)
    checkpoint = SingleFile(_saved(state, tmp_path / "upscaler.safetensors"))
    index = checkpoint.model_index()
    assert index["_class_name"] == "StableDiffusionUpscalePipeline"
    noising = checkpoint.scheduler("low_res_scheduler")
    assert noising is not None
    assert index["low_res_scheduler"] == ["diffusers", noising["_class_name"]]
    assert (noising["beta_start"], noising["beta_end"]) == (0.0001, 0.02)
    assert checkpoint.config("unet")["num_class_embeds"] == 10
