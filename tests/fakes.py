"""Stand-ins for engines, graphs and model folders: no weights, nothing compiled, milliseconds."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import convert

from pleinair.runtime import families
from pleinair.runtime.graphs.cut import DEEP_FEATURES, Cut
from pleinair.runtime.graphs.residuals import Residuals
from pleinair.runtime.model.controlnet import ControlNet, ControlNetConfig

POCKET = Path(__file__).parents[1] / "models" / "pocket"
WIDTH, TOKENS, FACTOR, LAYERS = 8, 77, 8, 3

UNET = {
    "block_out_channels": [32, 64],
    "cross_attention_dim": WIDTH,
    "in_channels": 4,
    "layers_per_block": 1,
    "sample_size": 8,
}
VAE = {
    "block_out_channels": [32, 32, 32, 32],
    "latent_channels": 4,
    "sample_size": 64,
    "scaling_factor": 0.18215,
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def written(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def model_folder(
    folder: Path,
    pipeline: str = "StableDiffusionPipeline",
    *,
    unet: Mapping[str, Any] | None = None,
    vae: Mapping[str, Any] | None = None,
    index: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    text_encoders: Sequence[str] = ("text_encoder",),
    parts: Sequence[str] = ("vae_encoder",),
    manifest: Mapping[str, Any] | None = None,
) -> Path:
    """A folder of optimum's layout whose graphs are empty: enough for all but computing.

    unet, vae, index, scheduler: what stands there beside or instead of Stable Diffusion's.
    parts: those beside text encoders, UNet and VAE decoder.
    """
    configs: dict[str, Mapping[str, Any]] = {
        "unet": {**UNET, **(unet or {})},
        "vae_decoder": {**VAE, **(vae or {})},
        **{part: {"hidden_size": WIDTH, "num_hidden_layers": LAYERS} for part in text_encoders},
    }
    if len(text_encoders) > 1:
        configs["unet"] = {**configs["unet"], "cross_attention_dim": 2 * WIDTH}
    if "text_encoder_2" in configs:
        configs["text_encoder_2"] = {**configs["text_encoder_2"], "projection_dim": 5}
    for part in (*configs, *parts):
        written(folder / part / "config.json", configs.get(part, {}))
        (folder / part / "openvino_model.xml").write_text("<net></net>", encoding="utf-8")
        (folder / part / "openvino_model.bin").write_bytes(b"")
    for part in text_encoders:
        shutil.copytree(POCKET / "tokenizer", folder / part.replace("text_encoder", "tokenizer"))
    written(folder / "scheduler" / "scheduler_config.json", {**SCHEDULER, **(scheduler or {})})
    written(folder / "model_index.json", {"_class_name": pipeline, **(index or {})})
    if manifest is not None:
        written(folder / "pleinair.json", manifest)
    return folder


def xl_folder(folder: Path, **more: Any) -> Path:
    more.setdefault("text_encoders", ("text_encoder", "text_encoder_2"))
    more["index"] = {
        **{part: ["transformers", "CLIPTextModel"] for part in more["text_encoders"]},
        **more.get("index", {}),
    }
    return model_folder(folder, "StableDiffusionXLPipeline", **more)


def upscaler_folder(folder: Path, **more: Any) -> Path:
    more["unet"] = {"in_channels": 7, "num_class_embeds": 1000, **more.get("unet", {})}
    more["vae"] = {"block_out_channels": [32, 32, 32], **more.get("vae", {})}
    made = model_folder(folder, "StableDiffusionUpscalePipeline", **more)
    low_res = {**SCHEDULER, "_class_name": "DDPMScheduler"}
    written(made / "low_res_scheduler" / "scheduler_config.json", low_res)
    return made


def instruction_folder(folder: Path, **more: Any) -> Path:
    more["unet"] = {"in_channels": 8, **more.get("unet", {})}
    return model_folder(folder, "StableDiffusionInstructPix2PixPipeline", **more)


def controlnet(config: Mapping[str, Any], weight: float = 1.0) -> ControlNet:
    """One without graphs, of what its config.json says."""
    return ControlNet(Path("net"), {}, convert(config, ControlNetConfig), weight)


class Counting:
    """A graph, as a function of its feeds, that remembers what it was fed."""

    def __init__(self, compute: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        self.compute = compute
        self.fed: list[dict[str, Any]] = []

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.fed.append(dict(feeds))
        return self.compute(feeds)


class FakeEngine:
    """Computes next to nothing, of the right shapes; counts what it compiles and what is called.

    refuses: what `compile` raises, if anything.
    """

    name, device, format = "openvino", "CPU", "openvino"
    precision, streams, threads = "f32", 1, None

    def __init__(self, family: Any, refuses: Exception | None = None) -> None:
        self.family, self.refuses = family, refuses
        self.compiled: list[tuple[str, dict[str, tuple[int, ...]], tuple[Any, ...]]] = []
        self.calls: Counter[str] = Counter()

    def compile(self, path: Path, shapes: Mapping[str, Any], edits: Sequence[Any] = ()) -> Any:
        if self.refuses:
            raise self.refuses
        part = path.parent.name
        sizes = {name: tuple(shape) for name, shape in shapes.items()}
        self.compiled.append((part, sizes, tuple(edits)))
        cut = next((edit for edit in edits if isinstance(edit, Cut)), None)
        name = f"{part}, shallow" if cut and cut.shallow else part

        def graph(feeds: Mapping[str, Any]) -> dict[str, Any]:
            self.calls[name] += 1
            expected = {*sizes, "timestep"} if part in ("unet", "controlnet") else {*sizes}
            expected |= {DEEP_FEATURES} if cut and cut.shallow else set()
            for edit in edits:
                expected |= set(edit.shapes) if isinstance(edit, Residuals) else set()
            assert set(feeds) == expected, part
            return self._computed(part, feeds, sizes, bool(cut and not cut.shallow))

        return graph

    def _computed(
        self, part: str, feeds: Mapping[str, Any], sizes: Mapping[str, Any], hands_out: bool
    ) -> dict[str, Any]:
        if part.startswith("text_encoder"):
            # Of each text another value: a branch that sees the wrong one is found out.
            mean = np.full((1, TOKENS, WIDTH), feeds["input_ids"].mean() / 5000, np.float32)
            states = {f"hidden_states.{i}": mean + i for i in range(LAYERS + 1)}
            pooled = np.full((1, 5), mean.flat[0], np.float32)
            return {"last_hidden_state": mean, "text_embeds": pooled, **states}
        if part == "unet":
            rows, channels = sizes["sample"][0], self.family.space.channels
            words = feeds["encoder_hidden_states"].mean(axis=(1, 2))[:, None, None, None]
            sample = np.broadcast_to(
                feeds["sample"][:, :channels], (rows, channels, *sizes["sample"][2:])
            )
            found = {"out_sample": (sample * 0.1 + words).astype(np.float32)}
            features = {DEEP_FEATURES: np.ones((rows, 2, 1, 1), np.float32)}
            return {**found, **features} if hands_out else found
        factor = self.family.space.factor
        if part == "vae_encoder":
            _, _, height, width = feeds["sample"].shape
            shape = (1, 2 * self.family.space.channels, height // factor, width // factor)
            return {"latent_parameters": np.full(shape, 0.25, np.float32)}
        _, _, rows, columns = feeds["latent_sample"].shape
        return {"sample": np.zeros((1, 3, rows * factor, columns * factor), np.float32)}


def opened(folder: Path, refuses: Exception | None = None, **options: Any) -> Any:
    """A pipeline on a folder of `model_folder`, with a fake engine."""
    from pleinair.runtime import StableDiffusionPipeline

    family = families.open_model(folder)
    return StableDiffusionPipeline(family, FakeEngine(family, refuses), **options)
