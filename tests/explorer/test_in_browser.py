"""The explorer's page as a person uses it, in headless Chromium, from disk."""

import shutil

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity

from skastro import explore

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

RNG = np.random.default_rng(0)
SIDE = 12
N = SIDE**2
PLACES = np.stack(np.divmod(np.arange(N), SIDE), axis=1)[:, ::-1].astype(float)  # a square of points
ROWS = RNG.normal(size=(N, 6))
IMAGES = RNG.integers(0, 255, (N, 3, 16, 16), dtype=np.uint8)
IDS = np.array([f'SDSS, "{row}"' for row in range(N)])
RA, DEC = np.where(np.arange(N) == 5, np.nan, np.arange(N) / 3600), np.full(N, 60.0)  # half an arcsecond apart
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
PIXELS = "Array.from(document.querySelector('#tip canvas').getContext('2d').getImageData(0, 0, 144, 144).data)"
KINDS = np.where(PLACES[:, 0] < 4, "ring", "disk")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return explore(
        ROWS,
        IMAGES,
        ids=IDS,
        ra=RA,
        dec=DEC,
        columns={"kind": KINDS, "z": np.linspace(0, 1, N)},
        positions=PLACES,
        labels=["ring", "no, ring"],
        path=tmp_path_factory.mktemp("explorer") / "page.html",
    )


@pytest.fixture
def page(browser, file):
    """The page, opened; what it asks for beyond its file, and its errors, are failures."""
    yield from opened(browser, file)


def opened(browser, file):
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page, wrong = context.new_page(), []
    page.on("request", lambda request: request.url.startswith(("file:", "blob:")) or wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type != "error" or wrong.append(message.text))
    page.goto(file.as_uri())
    page.evaluate(FRAMES)
    yield page
    context.close()
    assert not wrong


def at(page, row):
    """Where the point of a row is on the screen: the square fills nine tenths of the map's shorter side."""
    box = page.locator("#map").bounding_box()
    scale = 0.9 * min(box["width"], box["height"]) / (SIDE - 1)
    x, y = (PLACES[row] - (SIDE - 1) / 2) * scale
    return box["x"] + box["width"] / 2 + x, box["y"] + box["height"] / 2 - y


def lasso(page, corners):
    page.click("#lasso")
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in [*corners[1:], corners[0]]:
        page.mouse.move(*corner, steps=4)
    page.mouse.up()


def saved(page, button, folder):
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(folder / "table.csv")
    return pd.read_csv(folder / "table.csv")


def test_hovering_shows_the_thumbnail_and_the_facts(page):
    page.mouse.move(*at(page, 40))
    page.wait_for_selector("#tip:visible")
    assert page.inner_text("#tip p").splitlines() == [IDS[40], f"kind: {KINDS[40]}"]
    for _ in range(100):  # until its sheet is decoded
        pixels = page.evaluate(PIXELS)
        if any(pixels):
            break
        page.wait_for_timeout(50)
    shown = np.reshape(pixels, (144, 144, 4))[:, :, :3].reshape(16, 9, 16, 9, 3).mean(axis=(1, 3))
    assert np.corrcoef(shown.ravel(), np.moveaxis(IMAGES[40], 0, -1).ravel())[0, 1] > 0.6
    page.mouse.move(5, 400)
    assert page.is_hidden("#tip")


def test_a_click_shows_the_object_and_its_look_alikes(page):
    page.mouse.click(*at(page, 17))
    assert IDS[17] in page.inner_text("#object dl")
    alike = [int(button.get_attribute("data-row")) for button in page.query_selector_all("#alike button")]
    cosines = cosine_similarity(ROWS - ROWS.mean(axis=0))[17]
    assert_allclose(cosines[alike], np.sort(cosines)[::-1][1:13], atol=0.02)
    page.query_selector("#alike button").click()
    assert IDS[alike[0]] in page.inner_text("#object dl")


def test_a_lasso_selects_what_is_inside_and_the_table_is_read_back(page, tmp_path):
    (left, top), (right, bottom) = at(page, SIDE * 5 + 1), at(page, SIDE * 2 + 4)
    lasso(page, [(left - 9, top - 9), (right + 9, top - 9), (right + 9, bottom + 9), (left - 9, bottom + 9)])
    table = saved(page, "#save-selection", tmp_path)
    inside = (PLACES[:, 0] >= 1) & (PLACES[:, 0] <= 4) & (PLACES[:, 1] >= 2) & (PLACES[:, 1] <= 5)
    assert_array_equal(table["row"], np.flatnonzero(inside))
    assert_array_equal(table["id"], IDS[inside])
    assert_allclose(table["ra"], RA[inside])
    assert table["label"].isna().all()


def test_a_cone_finds_what_is_near_on_the_sky(page, tmp_path):
    for name, value in {"ra": RA[30], "dec": DEC[30], "radius": 1.6}.items():
        page.fill(f"#cone [name={name}]", str(value))
    page.press("#cone [name=radius]", "Enter")
    assert_array_equal(saved(page, "#save-selection", tmp_path)["row"], np.arange(27, 34))
    assert IDS[30] in page.inner_text("#object dl")
    page.fill("#cone [name=dec]", "north")
    page.press("#cone [name=dec]", "Enter")
    assert "needs RA and Dec in degrees" in page.inner_text("#status")


def test_an_object_is_found_by_its_name_or_a_part(page):
    page.fill("#find [name=name]", IDS[99].lower())
    page.press("#find [name=name]", "Enter")
    assert page.inner_text("#selected") == "1 selected."
    assert IDS[99] in page.inner_text("#object dl")
    page.fill("#find [name=name]", "sdss")
    page.press("#find [name=name]", "Enter")
    assert page.inner_text("#selected") == "144 selected."
    page.fill("#find [name=name]", "M 31")
    page.press("#find [name=name]", "Enter")
    assert "No name has" in page.inner_text("#status")


def test_labels_by_keys_are_saved_read_by_pandas_and_learned(page, tmp_path):
    page.click("#legend button >> nth=1")  # all rings
    page.keyboard.press("1")
    page.press("#map", "Escape")
    page.mouse.click(*at(page, 143))
    page.keyboard.press("2")
    page.mouse.click(*at(page, 142))
    page.keyboard.press("3")
    page.keyboard.press("0")
    page.mouse.click(*at(page, 0))
    page.keyboard.press("2")
    page.click("#undo")
    table = saved(page, "#save-labels", tmp_path)
    rings = np.flatnonzero(KINDS == "ring")
    assert_array_equal(table["row"], [*rings, 143])
    assert table["label"].tolist() == ["ring"] * len(rings) + ["no, ring"]
    assert LogisticRegression().fit(ROWS[table["row"]], table["label"]).classes_.tolist() == ["no, ring", "ring"]


def test_labels_go_on_where_they_were_saved_and_others_are_refused(page, tmp_path):
    table = pd.DataFrame({"row": [3, 4], "id": IDS[[3, 4]], "label": ["dusty", 'a "bar"']})
    table.to_csv(tmp_path / "labels.csv", index=False)
    page.set_input_files("#load-labels", tmp_path / "labels.csv")
    playwright.expect(page.locator("#status")).to_have_text("2 labels loaded.")
    found = saved(page, "#save-labels", tmp_path)
    pd.testing.assert_frame_equal(found[["row", "id", "label"]], table)
    table.assign(id="another").to_csv(tmp_path / "labels.csv", index=False)
    page.set_input_files("#load-labels", tmp_path / "labels.csv")
    playwright.expect(page.locator("#status")).to_contain_text("This is no table of labels")


def test_the_map_is_used_by_keys_alone(page):
    page.focus("#map")
    for key in ["+", "-", "ArrowLeft", "ArrowUp", "Home", "l", "l", "p", "p"]:
        page.keyboard.press(key)
    page.keyboard.press("Shift+Enter")
    assert page.inner_text("#selected") == "1 selected."
    middle = PLACES[page.evaluate("chosen")] - (SIDE - 1) / 2
    assert np.abs(middle).max() == 0.5
    page.keyboard.press("Escape")
    assert page.inner_text("#selected") == "Nothing is selected."


def test_dragging_moves_and_the_wheel_zooms_about_the_pointer(page):
    x, y = at(page, 70)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.mouse.move(x + 1, y)
    page.wait_for_selector("#tip:visible")
    assert page.inner_text("#tip p").startswith(IDS[70])
    page.mouse.down()
    page.mouse.move(x + 100, y + 50, steps=10)
    page.mouse.up()
    page.mouse.move(x + 99, y + 50)
    assert page.inner_text("#tip p").startswith(IDS[70])


def test_each_color_has_its_legend(page):
    texts = {}
    for choice in ("density", "label", "0", "1"):
        page.select_option("#color", choice)
        texts[choice] = page.inner_text("#legend")
    assert texts["0"].split() == ["disk", "96", "ring", "48"]
    assert texts["1"].split() == ["≤", "0.02098", "≥", "0.979"]
    assert "(none)" in texts["label"]
    assert "cell of the map" in texts["density"]


def test_what_was_not_given_is_not_offered(browser, tmp_path):
    for page in opened(browser, explore(ROWS, positions=PLACES, path=tmp_path / "page.html")):
        assert page.is_hidden("#cone")
        assert page.is_hidden("#pictures")
        page.mouse.click(*at(page, 3))
        assert page.is_visible("#object dl")
        assert page.is_hidden("#object canvas")
        assert page.inner_text("#alike button >> nth=0").split()[0].isdigit()
