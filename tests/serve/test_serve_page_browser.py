"""The page as people use it, in Chromium: run with pytest -m browser -n 0."""

import base64
import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pleinair.runtime import save
from pleinair.runtime.images.condition import Condition
from pleinair.serve.job import Job
from pleinair.serve.service import Service
from servers import Started

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.browser

POCKET = Path(__file__).parents[2] / "models" / "pocket"
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking "
    "--disable-component-update --disable-sync --no-first-run"
)
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PROMPT = "a red apple"
PATIENCE = 180_000
"""Milliseconds: the machine may be busy."""
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not here: apt-get install chromium")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, server: Started) -> Iterator[Open]:
    """`open_page()`: the page of `server`, or of another, in a window of its own.

    Whatever a test does there, nothing is fetched from elsewhere, and no script fails.
    """
    fetched: list[str] = []
    failed: list[str] = []
    contexts = []

    def opened(of: Started = server, size: dict[str, int] = DESKTOP, locale: str = "en-GB") -> Any:
        context = browser.new_context(
            viewport=size, locale=locale, has_touch=size is PHONE, is_mobile=size is PHONE
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: fetched.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda one: failed.append(one.text) if one.type == "error" else None)
        page.goto(of.base_url)
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            shot(page, "last")
        context.close()
    hosts = {url.split("/")[2] for url in fetched if not url.startswith(("blob:", "data:"))}
    assert all(host.partition(":")[0] in ("127.0.0.1", "localhost") for host in hosts), hosts
    expected = ("401", "400", "ERR_")  # what tests bring about
    assert [text for text in failed if not any(one in text for one in expected)] == []


def shot(page: Any, name: str) -> None:
    """A screenshot, where PLEINAIR_SCREENSHOTS names a folder for them."""
    if folder := os.environ.get("PLEINAIR_SCREENSHOTS"):
        test = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].partition(" ")[0]
        Path(folder).mkdir(exist_ok=True)
        page.screenshot(path=f"{folder}/{test.replace('/', '-')}-{name}.png")


def ready(page: Any) -> Any:
    page.wait_for_selector("body[data-ready]")
    assert page.locator("#error").is_hidden()
    return page


def field(page: Any, name: str) -> Any:
    return page.locator(f"#form [name={name}]")


def ask(page: Any, prompt: str = PROMPT, **values: object) -> None:
    field(page, "prompt").fill(prompt)
    for name, value in values.items():
        field(page, name).fill(str(value))


def paint(page: Any, pictures: int = 1) -> None:
    """Press the button, and wait until so many more pictures are in the gallery."""
    thumbs = page.locator(".thumb")
    before = thumbs.count()
    page.click("#paint")
    playwright.expect(thumbs).to_have_count(before + pictures)
    thumbs.first.locator("img[src]").wait_for()
    playwright.expect(page.locator(".job")).to_have_count(0)


def newest(page: Any, nth: int = 0) -> Image.Image:
    """A picture of the gallery, as its file is."""
    return Image.open(io.BytesIO(downloaded(page, page.locator(".thumb").nth(nth))))


def downloaded(page: Any, thumb: Any) -> bytes:
    text = thumb.evaluate(
        """async (thumb) => {
            const bytes = new Uint8Array(await thumb.picture.blob.arrayBuffer());
            return btoa(Array.from(bytes, (one) => String.fromCharCode(one)).join(""));
        }"""
    )
    return base64.b64decode(text)


def same(found: Image.Image, expected: Image.Image) -> bool:
    return bool(np.array_equal(np.asarray(found.convert("RGB")), np.asarray(expected)))


JOBS: list[Job] = []
"""All that were submitted."""


@pytest.fixture(autouse=True)
def _jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked is seen; jobs that are over are in the store alone."""
    submit = Service.submit

    async def seen(self: Service, *args: Any, **more: Any) -> Job:
        JOBS.append(await submit(self, *args, **more))
        return JOBS[-1]

    monkeypatch.setattr(Service, "submit", seen)


def drop(page: Any, selector: str, data: bytes) -> None:
    """Drop a picture file there, as a browser tells of it."""
    transfer = page.evaluate_handle(
        """(text) => {
            const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "a.png", { type: "image/png" }));
            return transfer;
        }""",
        base64.b64encode(data).decode(),
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event(selector, event, {"dataTransfer": transfer})


def as_file(image: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()}


@pytest.fixture(scope="module")
def apple(library: Any) -> Image.Image:
    return library(PROMPT, seed=7, num_inference_steps=6).images[0]


def test_a_picture_is_the_librarys(open_page: Open, apple: Image.Image) -> None:
    page = ready(open_page())
    ask(page, seed=7, num_inference_steps=6)
    paint(page)
    assert same(newest(page), apple)
    page.locator(".thumb").first.click()
    page.wait_for_selector("#viewer dd")
    shown = page.locator("#viewer dl").inner_text()
    assert "Seed\n7" in shown
    assert "Steps\n6" in shown
    shot(page, "viewer")


def test_several_pictures_from_random_seeds(open_page: Open, server: Started) -> None:
    page = ready(open_page())
    ask(page, number=3, num_inference_steps=2)
    paint(page, 3)
    seed = JOBS[-1].asked.seed
    page.click("#again")  # the last picture's
    assert field(page, "seed").input_value() == str(seed + 2)
    page.click("#random")
    assert field(page, "seed").input_value() == ""


def test_it_is_seen_while_it_is_painted_and_stopped(open_page: Open, server: Started) -> None:
    page = ready(open_page())
    ask(page, number=10, num_inference_steps=150)
    page.click("#paint")
    page.wait_for_selector(".job .preview[src]")
    playwright.expect(page.locator(".job p").first).to_contain_text("of 150")
    assert page.locator(".job progress").get_attribute("value") is not None
    shot(page, "painting")
    playwright.expect(page).to_have_title(re.compile(r"\d+ % – Pleinair"))
    page.click(".job .stop")
    playwright.expect(page.locator(".job")).to_have_count(0)
    assert JOBS[-1].status.state == "cancelled"
    playwright.expect(page).to_have_title("Pleinair")
    server.until_idle()


def test_those_that_wait_are_told_their_place(open_page: Open, server: Started) -> None:
    page = ready(open_page())
    ask(page, num_inference_steps=2)
    paint(page)  # now its speed is known
    ask(page, number=10, num_inference_steps=150)
    page.click("#paint")
    page.wait_for_selector(".job .preview[src]")
    other = ready(open_page())
    ask(other, num_inference_steps=2)
    other.click("#paint")
    waiting = other.locator(".job p", has_text="behind")
    playwright.expect(waiting).to_contain_text("left")
    shot(other, "waiting")
    page.click(".job .stop >> nth=0")
    playwright.expect(other.locator(".job")).to_have_count(0)


def test_a_picture_is_repeated(open_page: Open, server: Started, apple: Image.Image) -> None:
    page = ready(open_page())
    ask(page, seed=7, num_inference_steps=6)
    paint(page)
    ask(page, "a boat", seed=1, num_inference_steps=3, guidance_scale=2)
    page.locator(".thumb").first.click()
    page.click("#viewer button:text-is('Repeat')")
    assert field(page, "prompt").input_value() == PROMPT
    assert field(page, "num_inference_steps").input_value() == "6"
    assert page.locator("#error").is_hidden()
    paint(page)
    assert same(newest(page), apple)
    page.locator(".thumb").first.click()
    page.click("#viewer button:text-is('Vary')")
    assert field(page, "variation_strength").input_value() == "0.2"
    paint(page)
    assert JOBS[-1].asked.arguments["variation_strength"] == 0.2
    assert not same(newest(page), apple)
    page.click("#reset")
    assert field(page, "prompt").input_value() == PROMPT
    for name in ("variation_strength", "num_inference_steps", "width", "scheduler", "seed"):
        assert field(page, name).input_value() == "", name


def test_a_file_that_is_dropped_is_repeated(
    open_page: Open, apple: Image.Image, tmp_path: Path
) -> None:
    made = {"prompt": PROMPT, "seed": 7, "num_inference_steps": 6, "model": "another", "eta": 0.5}
    data = save(Image.new("RGB", (64, 64)), tmp_path / "a.png", made).read_bytes()
    page = ready(open_page())
    drop(page, "body", data)
    page.wait_for_selector("#brought dd")
    shot(page, "brought")
    page.click("#brought button:text-is('Repeat')")
    playwright.expect(page.locator("#error")).to_have_text("Not available here: Model another")
    assert field(page, "eta").input_value() == "0.5"
    field(page, "eta").evaluate("(one) => (one.value = '')")
    paint(page)
    assert same(newest(page), apple)


def test_a_file_that_says_nothing_can_be_started_from(open_page: Open, server: Started) -> None:
    page = ready(open_page())
    grey = Image.new("RGB", (64, 48), (90, 120, 150))
    drop(page, "body", as_file(grey)["buffer"])
    playwright.expect(page.locator("#brought")).to_contain_text("does not say how it was made")
    page.click("#brought button:text-is('Image to image')")
    ask(page, num_inference_steps=4, strength=0.5)
    paint(page)
    asked = JOBS[-1].asked.arguments
    assert same(asked["image"], grey)
    assert asked["strength"] == 0.5
    assert newest(page).size == (64, 48)


def test_a_mask_is_painted_with_the_mouse(
    open_page: Open, server: Started, library: Any, apple: Image.Image
) -> None:
    page = ready(open_page())
    ask(page, seed=3, num_inference_steps=4)
    page.click("#start summary")
    page.set_input_files("#start input[type=file]", as_file(apple))
    page.click("#mask")
    canvas = page.locator("#masking .paint")
    box = canvas.bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.1, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, middle, steps=5)
    page.mouse.up()
    shot(page, "masking")
    page.click("#masking button:text-is('Done')")
    page.check("#form [name=keep_unmasked]")
    paint(page)
    asked = JOBS[-1].asked.arguments
    mask = np.asarray(asked["mask_image"].convert("L"))
    assert mask.shape == (64, 64)
    assert mask[32, 16] == 255
    assert not mask[:, 40:].any()
    expected = library(**asked, seed=3).images[0]
    assert same(newest(page), expected)
    assert (np.asarray(expected)[:, 40:] == np.asarray(apple)[:, 40:]).all()
    page.click("#mask")  # it is still there
    page.click("#masking button:text-is('Clear')")
    page.keyboard.press("Control+z")
    page.click("#masking button:text-is('Done')")
    assert page.locator("#unmask").is_visible()
    page.click("#mask")
    page.click("#masking button:text-is('Clear')")
    page.click("#masking button:text-is('Undo')")
    page.click("#masking button:text-is('Clear')")
    page.click("#masking button:text-is('Done')")
    assert page.locator("#unmask").is_hidden()


def test_settings_are_compared_on_a_sheet(open_page: Open, server: Started) -> None:
    page = ready(open_page())
    ask(page)
    page.click("#compare summary")
    columns, rows = page.locator(".axis").all()
    columns.locator("select").select_option("num_inference_steps")
    columns.locator("textarea").fill("2, 4")
    rows.locator("select").select_option("scheduler")
    rows.locator(".word", has_text="dpmpp_2m").first.click()
    rows.locator(".word:text-is('euler')").click()
    page.click("#sheet")
    playwright.expect(page.locator(".sheet img[src]")).to_have_count(4)
    shot(page, "sheet")
    page.locator(".sheet td button").nth(1).click()
    page.wait_for_selector("#viewer dd")
    assert "Steps\n4" in page.locator("#viewer dl").inner_text()
    page.keyboard.press("Escape")
    asked = [job.asked for job in JOBS[-4:]]
    assert len({one.seed for one in asked}) == 1
    pairs = {(one.arguments["num_inference_steps"], one.arguments["scheduler"]) for one in asked}
    assert pairs == {(steps, name) for steps in (2, 4) for name in ("dpmpp_2m", "euler")}
    with page.expect_download() as saved:
        page.click(".sheet button:text-is('Save the sheet')")
    sheet = Image.open(saved.value.path())
    assert sheet.width > 2 * 64
    assert len(sheet.convert("RGB").getcolors(1 << 20)) > 100


def test_mistakes_are_told_in_a_line(open_page: Open) -> None:
    page = ready(open_page())
    page.click("#more summary")
    ask(page, width=64, height=64, eta=3)
    page.click("#paint")
    playwright.expect(page.locator("#error")).to_contain_text("eta")
    playwright.expect(page.locator("#error")).to_be_in_viewport(ratio=1)
    page.click("#start summary")
    text = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.set_input_files("#start input[type=file]", text)
    playwright.expect(page.locator("#start .slot")).to_contain_text("no picture that a browser")
    assert page.locator("#mask").is_hidden()
    page.click("#compare summary")
    page.click("#sheet")
    playwright.expect(page.locator("#error")).to_have_text("Choose a setting to compare.")
    page.locator(".axis select").first.select_option("scheduler")
    page.locator(".axis textarea").first.fill("none")
    page.click("#sheet")
    playwright.expect(page.locator("#error")).to_have_text(
        "Sampler has no none: choose from those listed."
    )
    field(page, "num_inference_steps").fill("5000")  # more than the server admits
    page.click("#paint")
    assert page.locator("#form :invalid").count() >= 1
    assert page.locator(".job").count() == 0


def test_pictures_are_there_after_a_reload(open_page: Open) -> None:
    page = ready(open_page())
    ask(page, "a blue boat", num_inference_steps=2, seed=5)
    paint(page)
    ask(page, "a blue boat", number=10, num_inference_steps=150)
    page.click("#paint")
    page.wait_for_selector(".job")
    page.reload()
    ready(page)
    assert field(page, "prompt").input_value() == "a blue boat"
    page.wait_for_selector(".thumb img[src][alt='a blue boat']")
    page.wait_for_selector(".job .preview[src]")  # what was in work is followed on
    page.click(".job .stop")
    playwright.expect(page.locator(".job")).to_have_count(0)


def test_the_language_is_the_browsers_and_can_be_switched(open_page: Open) -> None:
    page = ready(open_page(locale="zh-CN"))
    assert page.locator("html").get_attribute("lang") == "zh-Hans"
    playwright.expect(page.locator("#paint")).to_have_text("开始画")
    page.click("#more summary")
    shot(page, "chinese")
    for one in page.locator("#form label > span:not(.spinner)").all():
        text = one.inner_text()
        assert not text or any(letter >= "一" for letter in text) or text in ("VAE", "Eta"), text
    page.select_option("#language", "en")
    playwright.expect(page.locator("#paint")).to_have_text("Paint")
    for text in page.locator("#form label > span").all_inner_texts():
        assert text.isascii(), text
    page.reload()
    assert ready(page).locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_a_phone_shows_all_of_it_without_sideways_scrolling(
    open_page: Open, locale: str, apple: Image.Image
) -> None:
    page = ready(open_page(size=PHONE, locale=locale))
    shot(page, "first")
    ask(page, num_inference_steps=2)
    paint(page)
    page.click("#start summary")
    page.set_input_files("#start input[type=file]", as_file(apple))
    for part in ("words", "compare", "more"):
        page.click(f"#{part} > summary")
    page.locator(".axis select").first.select_option("scheduler")
    fits(page)
    page.screenshot() and shot(page, "open")
    page.locator("#mask").click()
    page.wait_for_selector("#masking .paint")
    fits(page)
    shot(page, "masking")
    page.keyboard.press("Escape")
    page.locator(".thumb").first.click()
    page.wait_for_selector("#viewer dd")
    fits(page)
    shot(page, "viewer")
    page.keyboard.press("Escape")
    page.locator("#gallery").scroll_into_view_if_needed()
    shot(page, "gallery")


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_what_can_be_chosen_is_shown_whole(
    open_page: Open, size: dict[str, int], locale: str
) -> None:
    page = ready(open_page(size=size, locale=locale))
    for part in ("start", "compare", "more"):
        page.click(f"#{part} > summary")
    shot(page, "options")
    cut = page.evaluate(
        """() => [...document.querySelectorAll("#form select")].filter((select) => {
            const shown = select.offsetWidth;
            select.style.width = "max-content";
            const wanted = select.offsetWidth;
            select.style.width = "";
            return shown && wanted > shown;
        }).map((select) => select.closest("label").innerText)"""
    )
    assert cut == []


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_all_that_can_be_used_has_a_name_that_is_read_aloud(open_page: Open, locale: str) -> None:
    """Labels and texts alone, no sign: `×` is not read as "Close"."""
    page = ready(open_page(locale=locale))
    ask(page, num_inference_steps=2)
    paint(page)
    for part in ("start", "compare", "more"):
        page.click(f"#{part} > summary")
    names(page.locator("body"))
    page.locator(".thumb").first.click()
    page.wait_for_selector("#viewer dd")
    names(page.locator("#viewer"))
    page.locator("#viewer .about button").nth(3).click()
    page.wait_for_selector("#masking .paint")
    names(page.locator("#masking"))


def names(part: Any) -> None:
    """Each control there has a name of letters."""
    control = re.compile(r"- (button|textbox|combobox|spinbutton|checkbox|slider)(?: \"(.*?)\")?")
    found = control.findall(part.aria_snapshot())
    assert found
    assert [one for one in found if not re.search(r"[^\W\d_]", one[1])] == []


def test_it_is_used_by_keys_alone(open_page: Open) -> None:
    page = ready(open_page())
    field(page, "prompt").focus()
    page.keyboard.type(PROMPT)
    for _ in range(2):
        before = page.locator(".thumb").count()
        page.keyboard.press("Control+Enter")
        playwright.expect(page.locator(".thumb")).to_have_count(before + 1)
    playwright.expect(page.locator("#news")).to_have_text(f"A picture is finished: {PROMPT}")
    first, second = (one.evaluate("(one) => one.picture.seed") for one in thumbs(page)[:2])
    page.locator(".thumb").first.focus()
    page.keyboard.press("Enter")
    shown = page.locator("#viewer dl")
    playwright.expect(shown).to_contain_text(str(first))
    page.keyboard.press("ArrowLeft")  # there is no newer one
    page.keyboard.press("ArrowRight")
    playwright.expect(shown).to_contain_text(str(second))
    page.keyboard.press("ArrowLeft")
    playwright.expect(shown).to_contain_text(str(first))
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()


def thumbs(page: Any) -> list[Any]:
    return list(page.locator(".thumb").all())


def fits(page: Any) -> None:
    """Nothing reaches beyond the window's right edge, in the page or an open dialog."""
    wide = page.evaluate(
        """() => [document.documentElement, ...document.querySelectorAll("dialog[open]")]
            .filter((one) => one.scrollWidth > Math.ceil(one.clientWidth)).map((one) => one.id)"""
    )
    assert wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_server_with_keys_is_asked_for_one(open_page: Open, start: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first\nsecond\n")
    with start(api_key_file=keys) as guarded:
        page = open_page(guarded)
        page.click("#asking button:text-is('Cancel')")
        playwright.expect(page.locator("#error")).to_contain_text("reload the page")
        page.reload()
        page.fill("#asking input", "wrong")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#asking h2")).to_contain_text("not one of the server's")
        page.fill("#asking input", "first")
        page.keyboard.press("Enter")
        ready(page)
        ask(page, num_inference_steps=2)
        paint(page)
        page.reload()
        ready(page)
        page.wait_for_selector(".thumb img[src]")
        page.click("#forget")
        page.fill("#asking input", "second")
        page.keyboard.press("Enter")
        ready(page)
        assert page.locator(".thumb").count() == 0  # another's pictures are not shown


def test_files_that_the_server_has_can_be_chosen(
    open_page: Open, start: Any, both: Any, exported_openvino: Path, tmp_path: Path
) -> None:
    import loras
    from checkpoints import tiny_controlnet, tiny_unet

    _, net = both("net-1", tiny_controlnet)
    (tmp_path / "loras").mkdir()
    loras.kohya(tmp_path / "loras" / "ink.safetensors", loras.factors(tiny_unet(), 1))
    followed = Image.effect_noise((64, 64), 90).convert("RGB")
    folders = {"loras": tmp_path / "loras", "controlnet": (net,), "data": tmp_path / "kept"}
    with start(model=(str(POCKET), str(exported_openvino)), **folders) as server:
        page = ready(open_page(server))
        page.select_option("#models select", exported_openvino.name)
        ask(page, num_inference_steps=2, seed=1, width=64, height=64)
        page.click("button:text-is('Add a LoRA')")
        page.fill("#loras .weighted input", "0.5")
        page.click("#control summary")
        page.click("button:text-is('Add a ControlNet')")
        page.click("#paint")
        playwright.expect(page.locator("#error")).to_have_text("Give every ControlNet its picture.")
        page.set_input_files("#control input[type=file]", as_file(followed))
        page.check("#control .weighted .truth input")
        shot(page, "files")
        paint(page)
        asked = JOBS[-1].asked
        assert asked.model == exported_openvino.name
        assert list(asked.loras) == [("ink", 0.5)]
        assert list(asked.controlnets) == [(net.name, 1.0)]
        edges = Condition(followed, (100.0, 200.0)).pixels((64, 64), "stretch")
        (given,) = asked.arguments["control_image"]
        assert (np.asarray(given).transpose(2, 0, 1) / 255 == edges[0]).all()
        page.click(".weighted button:text-is('Remove') >> nth=0")
        page.locator(".thumb").first.click()
        page.click("#viewer button:text-is('Repeat')")
        assert page.locator("#loras .weighted input").input_value() == "0.5"
        page.select_option("#models select", "pocket")
        assert page.locator("#words").is_visible()


def test_many_jobs_are_followed_at_once(open_page: Open) -> None:
    """More than browsers have connections: those that wait are asked after."""
    page = ready(open_page())
    before = page.locator(".thumb").count()
    ask(page, num_inference_steps=2)
    for _ in range(8):
        page.click("#paint")
        playwright.expect(page.locator("#paint")).to_be_enabled()
    playwright.expect(page.locator(".job")).to_have_count(0)
    assert page.locator(".thumb").count() == before + 8


def test_a_connection_that_is_lost_is_taken_up_again(open_page: Open) -> None:
    page = ready(open_page())
    lost = []

    def lose(route: Any) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.request.url)
            route.abort()

    page.route("**/events", lose)
    ask(page, num_inference_steps=2)
    paint(page)
    assert lost


def test_it_may_stand_under_a_path(open_page: Open, server: Started) -> None:
    """Behind a proxy that takes the path away."""
    page = ready(open_page())
    outside: list[str] = []
    path = f"{server.base_url}/studio/"
    page.route(
        f"{path}**", lambda route: route.continue_(url=route.request.url.replace("/studio/", "/"))
    )
    page.on("request", lambda one: one.url.startswith(("blob:", path)) or outside.append(one.url))
    page.goto(path)
    ready(page)
    ask(page, num_inference_steps=2)
    paint(page)
    assert outside == []


def test_a_picture_is_dragged_from_the_gallery(open_page: Open, apple: Image.Image) -> None:
    page = ready(open_page())
    ask(page, seed=7, num_inference_steps=6)
    paint(page)
    page.click("#start summary")
    page.locator(".thumb img").first.drag_to(page.locator("#start .holder"))
    page.wait_for_selector("#start .slot img[src]")
    ask(page, num_inference_steps=2)
    paint(page)
    assert same(JOBS[-1].asked.arguments["image"], apple)


def test_a_server_that_is_killed_and_started_again_goes_on(open_page: Open, tmp_path: Path) -> None:
    """The page stays open meanwhile: what was ordered comes, each picture once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["serve", "--model", str(POCKET), "--port", str(port), "--data", str(tmp_path)]

    def serve() -> subprocess.Popen[bytes]:
        started = subprocess.Popen([sys.executable, "-m", "pleinair", *words])
        until = time.monotonic() + PATIENCE / 1000
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200:
                    return started
            assert time.monotonic() < until
            time.sleep(0.1)

    server = serve()
    try:
        page = ready(open_page(SimpleNamespace(base_url=f"http://127.0.0.1:{port}")))
        ask(page, number=3, num_inference_steps=60)
        page.click("#paint")
        page.locator(".thumb").first.wait_for()
        server.kill()
        server.wait()
        server = serve()
        playwright.expect(page.locator(".thumb")).to_have_count(3)
        playwright.expect(page.locator(".job")).to_have_count(0)
        assert page.locator("#error").is_hidden()
    finally:
        server.kill()
        server.wait()
