"""Canny's edges are OpenCV's, dot for dot."""

import base64
import zlib

import numpy as np
import pytest

from pleinair.runtime.errors import SettingError
from pleinair.runtime.images.canny import canny


def scene() -> np.ndarray:
    """uint8 (40, 56, 3), in whole numbers alone: a ramp, a disc, and patterns that interfere."""
    y, x = np.mgrid[:40, :56]
    disc = ((x - 30) ** 2 + (y - 18) ** 2 < 160) * 190
    return np.stack([x * 5 % 256, disc, x * y // 3 % 256], axis=2).astype(np.uint8)


def soft(picture: np.ndarray) -> np.ndarray:
    """The mean of 5x5 dots, rounded down."""
    sums = picture.astype(np.int64)
    for axis in (0, 1):
        padding = [(2, 2) if axis == a else (0, 0) for a in range(sums.ndim)]
        sums = np.pad(sums, padding, mode="edge")
        length = sums.shape[axis] - 4
        sums = sum(np.take(sums, range(k, k + length), axis) for k in range(5))
    return (sums // 25).astype(np.uint8)


# What cv2.Canny of OpenCV 5.0.0 says, 1 on an edge: bits, by zlib and base 85.
CASES = {
    "colours": (
        scene(),
        100,
        200,
        "c-l>myAeVm5JfNI>=-a3BgqS1fE^GTQi3H=!s|e4uo6okvj7{g1WWMl5-7=G&wf|{JrVyX6W5<Sc9Ywt()FOyLsS"
        "Ycl!2OZ0Y<T&N|}jh$Z2Aw0nQ(TM8job7<?{T8M5`2iB?aX>3Zdq#bYoEV(&@tw#y=5&OKHx0^HuZ2nNuI4tHmcR"
        "Y|vouzklt#Gao`hQ{asJYR+$zij{)SO",
    ),
    "soft": (
        soft(scene()),
        40,
        90.7,
        "c-n2vu}VWR6b9fwMs9OTxRg#Altw(a;+C<S!FKR5B6R53M@SV)2f@X`2Z-;HqTp-v9b6m)J-4$54j=!&{6K$<f9T"
        "{-)Nc{a>#<DXNOd<->fH9Jf$p)B{qq}OfXoIC_$&qiKdCeDK%5#x=(y}Tn->z2WkObU-AU4_PKDtBQbuQ^;KM9R8"
        "R8*Ha{FAb$eTx5Aa5I$3;D)sE$G*_y(EvX?@>$MrBRrX4;6<c@kLgf58`|1K}S4CBeVPf>x3<>0@LYJKq}+KF5$h"
        "5Uv}4bxBLeKfG}P",
    ),
    "grey": (
        soft(scene())[..., 2],
        20.5,
        60,
        "c-nQ0u?_)25QhJ;a%W_75!EGxm29KCQYk1r#!3`QZ(xzg6$*t1TJa+H7%I%3PWYQ|=F2|={0(9Fl03it?w6!!Tc5"
        "c`>LXqc`p7|q!aAa_JPVwLfWnppio!t9P7!6UYZMb?Y%s0r?dH*ALq}lCrjY=FO`;*sjLwlMX%^_nLGI*|O%YHzw"
        "j)pbz;*?d65BZvov=MX=bG(_H_~jL3%IJgC>`#;do9Py+2swgVk(X",
    ),
    "one row": (scene()[5:6], 100, 200, "c-muN0099202cre"),
    "low is high": (
        soft(scene()),
        150,
        150,
        "c-nQ3KMKMy6vn^!pj8N=V;4a%)iq<sfEVfD;OG$|Ucv*k_XsF>jo!h<(f6gZA>qe^_x%aL<M9Wp1>0OOgo4}>k{n"
        "S%2n%zcfHjbGYJv9%1eJ8a4u}VRdd~%?vB2tP0<Ik=lgmm?vj`hKbv<<f^FU9N@=+6{B-qL%b*Zd~LLScTwb|#}I"
        "QDEp&z_hy&m?nuDIm25iAp^GWm}ftTmsDkhOv}?E{OgIv8N$U",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_edges_of_opencv(case: str) -> None:
    picture, low, high, packed = CASES[case]
    bits = np.frombuffer(zlib.decompress(base64.b85decode(packed)), np.uint8)
    expected = np.unpackbits(bits)[: picture[..., :1].size if picture.ndim == 3 else picture.size]
    edges = canny(picture, low, high)
    assert edges.dtype == np.uint8
    assert edges.shape == picture.shape[:2]
    assert np.array_equal(edges.ravel(), expected * 255)


def test_an_edge_that_winds_is_followed_to_its_end() -> None:
    """Around a serpentine, weak but for its bright head; without the head there is no edge."""
    picture = np.zeros((96, 96), np.uint8)
    for i, row in enumerate(range(8, 88, 16)):
        picture[row : row + 6, 8:88] = 60
        picture[row : row + 22, slice(82, 88) if i % 2 == 0 else slice(8, 14)] = 60
    assert not canny(picture, 100, 400).any()
    picture[8:14, 8:24] = 255
    followed = canny(picture, 100, 400)
    assert followed[80:].any()
    assert np.array_equal(followed, canny(picture, 100, 100))


@pytest.mark.parametrize(
    ("picture", "thresholds", "message"),
    [
        (scene(), (200, 100), "thresholds are 200,100"),
        (scene(), (-1, 100), "thresholds are -1,100"),
        (scene(), (0, float("nan")), "thresholds are 0,nan"),
        (scene() / 255, (100, 200), "not float64"),
        (scene()[None], (100, 200), r"\(1, 40, 56, 3\)"),
        (scene()[:0], (100, 200), r"\(0, 56, 3\)"),
    ],
    ids=["falling", "below 0", "nan", "floats", "of a batch", "empty"],
)
def test_mistakes(picture: np.ndarray, thresholds: tuple[float, float], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        canny(picture, *thresholds)
