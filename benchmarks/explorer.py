"""Size and speed of the explorer's page, in headless Chromium from disk, on thumbnails of real galaxies.

python benchmarks/explorer.py [--objects 2000 10000 100000]

Needs playwright (in the extra `test`) and Chromium of the system. Galaxies are turned and mirrored where there are
fewer than asked for. Embeddings and columns are simulated, and the map is that of principal components: how they were
made does not change the page.
"""

import argparse
import os
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from machine import header
from playwright.sync_api import sync_playwright

from skastro import explore

FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data"))
PAN = """() => new Promise((done) => {
  let frames = 0;
  const start = performance.now();
  const step = (now) => {
    move(frames % 40 < 20 ? 4 : -4, 1);
    frames++;
    now - start < 3000 ? requestAnimationFrame(step) : done(frames / (now - start) * 1000);
  };
  requestAnimationFrame(step);
})"""
TIMED = """(act) => {
  const start = performance.now();
  for (let k = 0; k < 20; k++) eval(act);
  return (performance.now() - start) / 20;
}"""


def galaxies(n: int) -> np.ndarray:
    parts = [np.load(FOLDER / f"{name}.npz")["images"] for name in ("galaxies_gz2kaggle", "gz2_unlabelled")]
    images = np.moveaxis(np.concatenate(parts), -1, 1)
    turned = [np.rot90(images[..., ::mirror], turns, axes=(2, 3)) for mirror in (1, -1) for turns in range(4)]
    return np.concatenate([turned[k % 8] for k in range(-(-n // len(images)))])[:n]


def measure(browser, page_file: Path) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
    page = context.new_page()
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    page.wait_for_function("performance.getEntriesByName('drawn').length > 0")
    found = {
        "requests that leave the page": sum(not url.startswith("file:") for url in requests),
        "first draw, s": page.evaluate("performance.getEntriesByName('drawn')[0].startTime / 1000"),
        "frames/s panning": page.evaluate(PAN),
        "drawing, ms": page.evaluate(TIMED, "drawPoints()"),
        "look-alikes, ms": page.evaluate(TIMED, "lookAlikes(7)"),
        "hover, ms": page.evaluate(TIMED, "nearest(500, 400, 14)"),
    }
    context.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[2_000, 10_000, 100_000])
    args = parser.parse_args()
    header("The page of the explorer")
    rng = np.random.default_rng(0)
    rows = []
    with TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        for n in args.objects:
            images = galaxies(n)
            groups = rng.normal(size=(12, 128))[rng.integers(0, 12, n)]
            embedding = (groups + rng.normal(size=(n, 128))).astype(np.float32)
            columns = {"brightness": images.mean(axis=(1, 2, 3), dtype=np.float32), "group": groups[:, 0].round(1)}
            start = time.perf_counter()
            page_file = explore(
                embedding,
                images,
                ids=np.arange(n),
                ra=rng.uniform(0, 360, n),
                dec=rng.uniform(-60, 60, n),
                columns=columns,
                method="pca",
                path=Path(folder, f"{n}.html"),
            )
            told = {"objects": n, "written in, s": time.perf_counter() - start, "MB": page_file.stat().st_size / 1e6}
            rows.append(told | measure(browser, page_file))
            print(f"{n:,} objects measured", flush=True)
        browser.close()
    print(pd.DataFrame(rows).set_index("objects").T.to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
