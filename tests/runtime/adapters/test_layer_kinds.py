"""What every kind of layer makes of a weight, against the formulas that are published for it.

Written in torch as webui, LyCORIS, kohya's sd-scripts and ComfyUI have them, not in our terms.
"""

import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

import loras
from pleinair.runtime.adapters import fitting, lora
from pleinair.runtime.adapters.kinds import kind_of
from pleinair.runtime.adapters.merging import Layer
from pleinair.runtime.adapters.naming import target
from pleinair.runtime.errors import AdapterError

torch = pytest.importorskip("torch")

LINEAR, CONV = (12, 8), (12, 8, 3, 3)
SHAPES = {
    "mid_block.attentions.0.proj_in.weight": LINEAR,
    "mid_block.resnets.0.conv1.weight": CONV,
    "mid_block.resnets.0.norm1.weight": (8,),
}
NAMES = {
    LINEAR: "lora_unet_mid_block_attentions_0_proj_in",
    CONV: "lora_unet_mid_block_resnets_0_conv1",
}
PARAMETERS = {shape: name for name, shape in SHAPES.items()}
Tensors = Mapping[str, "torch.Tensor"]


def random(*shape: int) -> "torch.Tensor":
    return torch.randn(*shape) * 0.3


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def merged(folder: Path, tensors: Tensors, shape: tuple[int, ...], strength: float) -> "np.ndarray":
    """What becomes of `weight(shape)` by a file with these tensors of its layer."""
    named = {f"{NAMES[shape]}.{role}": value for role, value in tensors.items()}
    file = loras.save(folder / "x.safetensors", {k: np.asarray(v) for k, v in named.items()})
    changes = fitting.changes([lora.read(file, strength)], {"unet": SHAPES})["unet"]
    return changes[PARAMETERS[shape]](weight(shape).numpy())


def weight(shape: tuple[int, ...]) -> "torch.Tensor":
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def low_rank(shape: tuple[int, ...], rank: int = 3) -> tuple[Tensors, "torch.Tensor"]:
    down, up = random(rank, *shape[1:]), random(shape[0], rank, *[1] * (len(shape) - 2))
    delta = (up.flatten(1) @ down.flatten(1)).reshape(shape)
    return {"lora_down.weight": down, "lora_up.weight": up}, delta


both = pytest.mark.parametrize("shape", [LINEAR, CONV], ids=["linear", "conv"])
strengths = pytest.mark.parametrize("strength", [1.0, -0.7])


def check(found: "np.ndarray", right: "torch.Tensor", shape: tuple[int, ...]) -> None:
    assert (right - weight(shape)).abs().max() > 1e-2, "it changes nothing: no test"
    torch.testing.assert_close(torch.from_numpy(found), right, rtol=1e-4, atol=1e-5)


@both
@strengths
def test_full_difference(shape: tuple[int, ...], strength: float, tmp_path: Path) -> None:
    """webui's network_full: the difference times the weight."""
    diff = random(*shape)
    found = merged(tmp_path, {"diff": diff}, shape, strength)
    check(found, weight(shape) + strength * diff, shape)


@both
def test_scale_of_the_file_goes_before_alpha(shape: tuple[int, ...], tmp_path: Path) -> None:
    """webui's calc_scale."""
    tensors, delta = low_rank(shape)
    stated = {**tensors, "alpha": torch.tensor(1.0), "scale": torch.tensor(0.25)}
    check(merged(tmp_path, stated, shape, 1.0), weight(shape) + 0.25 * delta, shape)


@both
@strengths
@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize("peft", [False, True], ids=["dora_scale", "magnitude"])
def test_dora(
    shape: tuple[int, ...], strength: float, axis: str, peft: bool, tmp_path: Path
) -> None:
    """LyCORIS' apply_weight_decompose, of rows where wd_on_output; PEFT's has rows alone.

    Between no strength and full one webui and ComfyUI take the straight way.
    """
    tensors, delta = low_rank(shape)
    base = weight(shape)
    summed = base + 2 / 3 * delta
    if axis == "rows" or peft:
        size, lengths = shape[0], summed.flatten(1).norm(dim=1)
        scale = torch.rand(size) + 0.5
        right = summed * (scale / lengths).reshape(-1, *[1] * (len(shape) - 1))
        stated = scale.reshape(-1, *[1] * (len(shape) - 1))
        if peft:  # (out,) of a linear layer, (1, out, 1, 1) of a convolution
            stated = scale if len(shape) == 2 else scale.reshape(1, -1, 1, 1)
    else:
        size, lengths = shape[1], summed.transpose(0, 1).flatten(1).norm(dim=1)
        scale = torch.rand(size) + 0.5
        stated = scale.reshape(1, -1, *[1] * (len(shape) - 2))
        right = summed * stated / lengths.reshape(stated.shape)
    role = "lora_magnitude_vector" if peft else "dora_scale"
    found = merged(tmp_path, {**tensors, "alpha": torch.tensor(2.0), role: stated}, shape, strength)
    check(found, base + strength * (right - base), shape)


@both
@strengths
def test_dora_of_other_kinds(shape: tuple[int, ...], strength: float, tmp_path: Path) -> None:
    left, right = random(3, 2), random(4, 4, *shape[2:])
    delta = torch.kron(left.reshape(3, 2, *[1] * (len(shape) - 2)), right)
    summed = weight(shape) + delta
    scale = torch.rand(shape[0], *[1] * (len(shape) - 1)) + 0.5
    lengths = summed.flatten(1).norm(dim=1).reshape(scale.shape)
    tensors = {"lokr_w1": left, "lokr_w2": right, "dora_scale": scale}
    base = weight(shape)
    wanted = base + strength * (summed * scale / lengths - base)
    check(merged(tmp_path, tensors, shape, strength), wanted, shape)


@strengths
@pytest.mark.parametrize("older", [True, False])
def test_glora(strength: float, older: bool, tmp_path: Path) -> None:
    """LyCORIS: (W a1) a2 + b1 b2; before, and in webui: (W a2) a1 + b2 b1. alpha / rank."""
    out, width, rank = *LINEAR, 3
    outer_a, inner_a = random(width, rank), random(rank, width)
    outer_b, inner_b = random(out, rank), random(rank, width)
    order = ("a2", "a1", "b2", "b1") if older else ("a1", "a2", "b1", "b2")
    factors = (outer_a, inner_a, outer_b, inner_b)
    tensors = {f"{name}.weight": one for name, one in zip(order, factors, strict=True)}
    base = weight(LINEAR)
    delta = (base @ outer_a) @ inner_a + outer_b @ inner_b
    found = merged(tmp_path, {**tensors, "alpha": torch.tensor(1.5)}, LINEAR, strength)
    check(found, base + strength * 0.5 * delta, LINEAR)


def test_glora_of_a_convolution(tmp_path: Path) -> None:
    """LyCORIS' make_weight: A mixes the channels that are read, B is a convolution's low rank."""
    rank, base = 3, weight(CONV)
    a1, a2 = random(8, rank, 1, 1), random(rank, 8, 1, 1)
    b1, b2 = random(12, rank, 1, 1), random(rank, 8, 3, 3)
    mixed = torch.einsum("oi...,ij->oj...", base, a1.flatten(1))
    mixed = torch.einsum("oi...,ij->oj...", mixed, a2.flatten(1))
    added = (b1.flatten(1) @ b2.flatten(1)).reshape(CONV)
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
    check(merged(tmp_path, tensors, CONV, 1.0), base + mixed + added, CONV)


@both
@strengths
@pytest.mark.parametrize("constraint", [0.0, 0.01])
def test_oft(shape: tuple[int, ...], strength: float, constraint: float, tmp_path: Path) -> None:
    """LyCORIS' DiagOFTModule and kohya's oft.py: rows turned by Cayley's rotations, in blocks."""
    blocks, rows = random(3, 4, 4), shape[0]
    skew = blocks - blocks.transpose(1, 2)
    if constraint:  # COFT; alpha states it
        skew = skew * min(1.0, constraint * rows / float(skew.norm()))
        assert constraint * rows < float((blocks - blocks.transpose(1, 2)).norm())
    eye = torch.eye(4)
    turning = (eye + skew) @ (eye - skew).inverse()
    base = weight(shape)
    mixed = turning * strength + (1 - strength) * eye
    right = torch.einsum("knm,kn...->km...", mixed, base.unflatten(0, (3, 4))).flatten(0, 1)
    tensors = {"oft_blocks": blocks, "alpha": torch.tensor(constraint)}
    check(merged(tmp_path, tensors, shape, strength), right, shape)
    if not constraint:  # older LyCORIS writes the rotations themselves
        check(merged(tmp_path, {"oft_diag": turning}, shape, strength), right, shape)


@both
def test_boft(shape: tuple[int, ...], tmp_path: Path) -> None:
    """LyCORIS' ButterflyOFTModule.make_weight, as webui does it on the first axis; rescaled."""
    blocks, rescale = random(2, 6, 2, 2), torch.rand(12, *[1] * (len(shape) - 1)) + 0.5
    skew = blocks - blocks.transpose(-1, -2)
    eye = torch.eye(2)
    turning = (eye + skew) @ (eye - skew).inverse()
    right = weight(shape)
    for step, factor in enumerate(turning):
        stride = 2**step
        right = right.unflatten(0, (-1, 2, stride)).transpose(1, 2).flatten(0, 2)
        right = torch.einsum("bij,bj...->bi...", factor, right.unflatten(0, (-1, 2)))
        right = right.flatten(0, 1).unflatten(0, (-1, stride, 2)).transpose(1, 2).flatten(0, 2)
    tensors = {"oft_blocks": blocks, "rescale": rescale, "alpha": torch.tensor(0.0)}
    check(merged(tmp_path, tensors, shape, 1.0), rescale * right, shape)


@both
@strengths
@pytest.mark.parametrize("on_input", [0, 1])
def test_ia3(shape: tuple[int, ...], strength: float, on_input: int, tmp_path: Path) -> None:
    """LyCORIS' IA3Module: rows, or columns, times 1 + strength * weight."""
    scale = random(shape[1] if on_input else shape[0])
    spread = scale.reshape(1, -1) if on_input else scale.reshape(-1, 1)
    spread = spread.reshape(*spread.shape, *[1] * (len(shape) - 2))
    tensors = {"weight": scale, "on_input": torch.tensor(on_input)}
    base = weight(shape)
    check(merged(tmp_path, tensors, shape, strength), base * (1 + strength * spread), shape)


def test_lokr_of_two_tucker_cores(tmp_path: Path) -> None:
    """LyCORIS' rebuild_tucker on both sides: i j k l, i p, j r -> p r k l."""
    cores = {1: random(2, 3, 3, 3), 2: random(3, 2, 1, 1)}
    outer, inner = {1: random(2, 3), 2: random(3, 4)}, {1: random(3, 2), 2: random(2, 4)}
    sides = [torch.einsum("ijkl,ip,jr->prkl", cores[i], outer[i], inner[i]) for i in (1, 2)]
    delta = torch.kron(*sides)
    tensors = {
        f"lokr_{name}": value
        for i in (1, 2)
        for name, value in ((f"t{i}", cores[i]), (f"w{i}_a", outer[i]), (f"w{i}_b", inner[i]))
    }
    check(merged(tmp_path, tensors, CONV, 1.0), weight(CONV) + delta, CONV)


def test_norms_and_biases(tmp_path: Path) -> None:
    """LyCORIS' NormModule, diff_b and PEFT's lora_bias; a bias may be there or not."""
    norm, layer = "lora_unet_mid_block_resnets_0_norm1", NAMES[LINEAR]
    w_norm, b_norm, diff_b = random(8), random(8), random(12)
    pair, _ = low_rank(LINEAR)
    tensors = {
        f"{norm}.w_norm": w_norm,
        f"{norm}.b_norm": b_norm,
        f"{layer}.diff_b": diff_b,
        **{f"{layer}.{role}": value for role, value in pair.items()},
        f"{layer}.alpha": torch.tensor(1.0),
        f"{NAMES[CONV]}.lora_A.weight": random(2, 8, 3, 3),
        f"{NAMES[CONV]}.lora_B.weight": random(12, 2, 1, 1),
        f"{NAMES[CONV]}.lora_B.bias": torch.ones(12),
        f"{NAMES[CONV]}.alpha": torch.tensor(1.0),
    }
    file = loras.save(tmp_path / "n.safetensors", {k: np.asarray(v) for k, v in tensors.items()})
    changes = fitting.changes([lora.read(file, -0.5)], {"unet": SHAPES})["unet"]

    def of(name: str, size: int) -> "np.ndarray":
        return changes[name](np.zeros(size, np.float32))

    np.testing.assert_allclose(of("mid_block.resnets.0.norm1.weight", 8), -0.5 * w_norm, 1e-6)
    np.testing.assert_allclose(of("mid_block.resnets.0.norm1.bias", 8), -0.5 * b_norm, 1e-6)
    np.testing.assert_allclose(of("mid_block.attentions.0.proj_in.bias", 12), -0.5 * diff_b, 1e-6)
    # PEFT: the bias of lora_B is scaled as the product is, here by 1 / 2.
    np.testing.assert_allclose(of("mid_block.resnets.0.conv1.bias", 12), np.full(12, -0.25))


def test_files_meet_one_after_the_other(tmp_path: Path) -> None:
    """As in webui: what turns or scales a weight sees what the file before it has made."""
    diff, scale = random(*LINEAR), random(12)
    name = NAMES[LINEAR]
    first = loras.save(tmp_path / "a.safetensors", {f"{name}.diff": diff.numpy()})
    tensors = {f"{name}.weight": scale.numpy(), f"{name}.on_input": np.array(0)}
    second = loras.save(tmp_path / "b.safetensors", tensors)
    read = [lora.read(first, 0.5), lora.read(second)]
    made = fitting.changes(read, {"unet": SHAPES})["unet"][PARAMETERS[LINEAR]]
    right = (weight(LINEAR) + 0.5 * diff) * (1 + scale[:, None])
    check(made(weight(LINEAR).numpy()), right, LINEAR)


HUGE: Mapping[str, Callable[[], Mapping[str, tuple[int, ...]]]] = {
    "LoRA": lambda: {"lora_down.weight": (1, 200_000), "lora_up.weight": (200_000, 1)},
    "LoKr": lambda: {"lokr_w1": (3000, 3000), "lokr_w2": (3000, 3000)},
    "LoHa": lambda: {
        f"hada_w{i}_{s}": (9000, 1) if s == "a" else (1, 9000) for i in (1, 2) for s in "ab"
    },
    "Tucker": lambda: {
        "lora_down.weight": (2, 8, 1, 1),
        "lora_mid.weight": (2, 2, 3000, 3000),
        "lora_up.weight": (12, 2, 1, 1),
    },
    "GLoRA": lambda: {
        f"{n}.weight": (50_000, 1) if n[1] == "1" else (1, 50_000) for n in ("a1", "a2", "b1", "b2")
    },
    "OFT": lambda: {"oft_blocks": (1, 5000, 5000)},
    "DoRA": lambda: {
        "lora_down.weight": (1, 8),
        "lora_up.weight": (12, 1),
        "dora_scale": (40_000, 1),
    },
}


@pytest.mark.parametrize("kind", HUGE)
def test_nothing_is_multiplied_that_does_not_fit(kind: str, tmp_path: Path) -> None:
    """Products of many gigabytes are refused by their shapes; here factors take no bytes."""
    factors = {
        target(f"{NAMES[LINEAR]}.{role}").role: np.broadcast_to(np.float32(1), shape)  # type: ignore[union-attr]
        for role, shape in HUGE[kind]().items()
    }
    magnitude = factors.pop("dora_scale", None)
    found = kind_of(frozenset(factors))
    assert found is not None
    layer = Layer(found[0], factors, magnitude=magnitude, keys=("x",))
    tracemalloc.start()
    assert layer.mismatch(LINEAR)
    assert layer.mismatch(CONV)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_overflow_names_the_files(tmp_path: Path) -> None:
    tensors = {f"{NAMES[LINEAR]}.diff": np.full(LINEAR, 3e38, "f4")}
    file = loras.save(tmp_path / "far.safetensors", tensors)
    made = fitting.changes([lora.read(file, 2)], {"unet": SHAPES})["unet"]
    with pytest.raises(AdapterError, match=r"far\.safetensors.*no numbers.*smaller weight"):
        made[PARAMETERS[LINEAR]](np.ones(LINEAR, "f4"))
