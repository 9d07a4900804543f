"""Fetch the four icon sets and the names, and draw the icons as small pictures with transparency.

The packages come from npm at pinned versions. npm checks each archive against the digest that its
registry names, and `check_integrity` checks that digest against the one pinned here, so a changed
archive stops the stage. `check_names` holds `subjects.json` against emojibase-data.

Writes `work/icons.npz`, RGBA with colour multiplied by alpha, each icon filling its frame:

- `subjects`: uint8 (subjects, styles, 96, 96, 4);
- `others`: uint8 (icons, 96, 96, 4), icons outside the subjects, for the autoencoder only.
"""

import io
import json
import subprocess

import numpy as np
from PIL import Image

from . import WORK
from .vocabulary import STYLES, SUBJECTS

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
    "emojibase-data": (
        "17.0.0",
        "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    ),
}
SIZE = 96
OTHERS_PER_STYLE = 300
_DRAWN = 320  # icons are drawn larger, then shrunk with a good filter


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


def check_names() -> None:
    """Raise `SystemExit` unless every Chinese name stands in emojibase-data, beside its thing."""
    folder = WORK / "node_modules" / "emojibase-data"
    english, chinese = (
        {entry["hexcode"]: entry for entry in json.loads((folder / path).read_text("utf-8"))}
        for path in ("en/data.json", "zh/data.json")
    )
    by_label = {entry["label"].lower(): code for code, entry in english.items()}
    for thing, facts in SUBJECTS.items():
        entry = chinese[by_label[facts.get("label", thing)]]
        known = {name.lower() for name in (entry["label"], *entry.get("tags", []))}
        if strange := set(facts["zh"]) - known:
            raise SystemExit(f"{thing}: {sorted(strange)} is no label or tag of emojibase-data")


def read_set(name: str) -> dict:
    """The icon set as Iconify's JSON: `icons`, `aliases` and a default `width` and `height`."""
    path = WORK / "node_modules" / "@iconify-json" / name / "icons.json"
    return json.loads(path.read_text("utf-8"))


def draw(icon_set: dict, icon: str) -> np.ndarray:
    """The icon, premultiplied, cropped to what is visible and centred; uint8 (SIZE, SIZE, 4)."""
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
    visible = image.crop(image.getchannel("A").getbbox()).convert("RGBa")
    scale = SIZE / max(visible.size)
    width, height = (max(1, round(side * scale)) for side in visible.size)
    small = np.asarray(visible.resize((width, height), Image.Resampling.LANCZOS))
    frame = np.zeros((SIZE, SIZE, 4), np.uint8)
    left, top = (SIZE - width) // 2, (SIZE - height) // 2
    frame[top : top + height, left : left + width] = small
    # LANCZOS overshoots; a premultiplied colour above its alpha would shine through.
    frame[..., :3] = np.minimum(frame[..., :3], frame[..., 3:])
    return frame


def draw_all(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`subjects` and `others` as the module docstring describes them."""
    random = np.random.default_rng(seed)
    subjects = np.empty((len(SUBJECTS), len(STYLES), SIZE, SIZE, 4), np.uint8)
    others = []
    chosen = {facts["icon"] for facts in SUBJECTS.values()}
    for column, name in enumerate(STYLES.values()):
        icon_set = read_set(name)
        for row, facts in enumerate(SUBJECTS.values()):
            subjects[row, column] = draw(icon_set, facts["icon"])
        rest = sorted(set(icon_set["icons"]) - chosen)
        strangers = random.choice(rest, OTHERS_PER_STYLE, replace=False)
        others += [draw(icon_set, str(icon)) for icon in strangers]
    return subjects, np.stack(others)


def main() -> None:
    fetch()
    check_names()
    subjects, others = draw_all()
    np.savez(WORK / "icons.npz", subjects=subjects, others=others)
    print(f"subjects {subjects.shape}, others {others.shape} -> {WORK / 'icons.npz'}")


if __name__ == "__main__":
    main()
