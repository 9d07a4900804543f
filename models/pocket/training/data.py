"""Fetch the four icon sets and draw them as small pictures with transparency.

The sets come from npm at pinned versions. npm checks each archive against the digest that its
registry names, and `check_integrity` checks that digest against the one pinned here, so a changed
archive stops the stage.

Writes `work/icons.npz`:

- `subjects`: uint8 (subjects, styles, variants, 64, 64, 4), RGBA with colour multiplied by alpha;
- `others`: uint8 (icons, 64, 64, 4), icons outside the subjects, for the autoencoder only.
"""

import io
import json
import subprocess

import numpy as np
from PIL import Image

from . import WORK
from .captions import STYLES, SUBJECTS

PACKAGES = {
    "@iconify-json/noto": (
        "1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "@iconify-json/twemoji": (
        "1.2.5",
        "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "@iconify-json/fluent-emoji": (
        "1.2.7",
        "sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
    ),
    "@iconify-json/fluent-emoji-flat": (
        "1.2.6",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
}
SIZE = 64
VARIANTS = 6
OTHERS_PER_STYLE = 150
_DRAWN = 192  # icons are drawn larger, then shrunk with a good filter


def fetch() -> None:
    """Install the pinned packages into `work/node_modules` and check what arrived."""
    WORK.mkdir(exist_ok=True)
    wanted = {name: version for name, (version, _) in PACKAGES.items()}
    manifest = {"name": "pocket-data", "private": True, "dependencies": wanted}
    (WORK / "package.json").write_text(json.dumps(manifest, indent=2))
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=WORK, check=True)
    check_integrity()


def check_integrity() -> None:
    """Raise `SystemExit` unless npm installed the very archives pinned in `PACKAGES`."""
    lock = json.loads((WORK / "node_modules" / ".package-lock.json").read_text("utf-8"))
    for name, (version, integrity) in PACKAGES.items():
        entry = lock["packages"][f"node_modules/{name}"]
        if (entry["version"], entry["integrity"]) != (version, integrity):
            raise SystemExit(
                f"{name}: npm installed {entry['version']} {entry['integrity']}, "
                f"not {version} {integrity}; see PACKAGES in {__file__}"
            )


def read_set(name: str) -> dict:
    """The icon set as Iconify's JSON: `icons`, `aliases` and a default `width` and `height`."""
    path = WORK / "node_modules" / "@iconify-json" / name / "icons.json"
    return json.loads(path.read_text("utf-8"))


def draw(icon_set: dict, icon: str) -> Image.Image:
    """The icon on a transparent ground, cropped to what is visible; mode RGBa (premultiplied)."""
    import resvg_py  # here: what reads the drawn data needs no renderer

    entry = icon_set["icons"][icon]
    box = [
        entry.get("left", 0),
        entry.get("top", 0),
        entry.get("width", icon_set.get("width", 16)),
        entry.get("height", icon_set.get("height", 16)),
    ]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{" ".join(map(str, box))}">{entry["body"]}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=_DRAWN, height=_DRAWN, skip_system_fonts=True)
    image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    return image.crop(image.getchannel("A").getbbox()).convert("RGBa")


def place(icon: Image.Image, random: np.random.Generator) -> np.ndarray:
    """The icon shrunk to 80-90% of the frame and put near its centre; uint8 (64, 64, 4)."""
    scale = random.uniform(0.80, 0.90) * SIZE / max(icon.size)
    width, height = (max(1, round(side * scale)) for side in icon.size)
    # Shrink through RGBA-safe premultiplied channels: plain RGBA would bleed the colour of nothing.
    small = icon.resize((width, height), Image.Resampling.LANCZOS)
    frame = np.zeros((SIZE, SIZE, 4), np.uint8)
    left, top = (
        int(np.clip((SIZE - side) // 2 + random.integers(-2, 3), 0, SIZE - side))
        for side in (width, height)
    )
    frame[top : top + height, left : left + width] = np.asarray(small)
    # LANCZOS overshoots; a premultiplied colour above its alpha would shine through.
    frame[..., :3] = np.minimum(frame[..., :3], frame[..., 3:])
    return frame


def draw_all(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`subjects` and `others` as the module docstring describes them."""
    random = np.random.default_rng(seed)
    subjects = np.empty((len(SUBJECTS), len(STYLES), VARIANTS, SIZE, SIZE, 4), np.uint8)
    others = []
    chosen = {subject["icon"] for subject in SUBJECTS.values()}
    for column, name in enumerate(STYLES.values()):
        icon_set = read_set(name)
        for row, subject in enumerate(SUBJECTS.values()):
            icon = draw(icon_set, subject["icon"])
            for variant in range(VARIANTS):
                subjects[row, column, variant] = place(icon, random)
        rest = sorted(set(icon_set["icons"]) - chosen)
        strangers = random.choice(rest, OTHERS_PER_STYLE, replace=False)
        others += [place(draw(icon_set, str(icon)), random) for icon in strangers]
    return subjects, np.stack(others)


def load_subjects() -> np.ndarray:
    """`subjects` of `work/icons.npz`."""
    return np.load(WORK / "icons.npz")["subjects"]


def main() -> None:
    fetch()
    subjects, others = draw_all()
    np.savez(WORK / "icons.npz", subjects=subjects, others=others)
    print(f"subjects {subjects.shape}, others {others.shape} -> {WORK / 'icons.npz'}")


if __name__ == "__main__":
    main()
