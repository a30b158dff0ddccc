"""Command line: a demonstration, a description of a saved model, and fits and embeddings of images on disk."""

import argparse
import ast
import os
import subprocess
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import Bunch
from threadpoolctl import threadpool_limits

__all__ = ["demo", "main"]

METHODS = {
    "simclr": "SimCLREmbedder",
    "byol": "BYOLEmbedder",
    "moco": "MoCoEmbedder",
    "vicreg": "VICRegEmbedder",
    "barlow": "BarlowTwinsEmbedder",
    "dino": "DINOEmbedder",
}
EXAMPLES = {
    "fit": """examples:
  skastro fit cutouts.h5 --key images --size 64 --out galaxies.skastro
  skastro fit sky.zarr --method byol --set encoder=resnet18 max_epochs=50 --checkpoint run --out galaxies.skastro
  torchrun --nproc-per-node 4 --no-python skastro fit cutouts.h5 --out galaxies.skastro     (on 4 GPUs)""",
    "embed": """examples:
  skastro embed galaxies.skastro cutouts.h5 --key images --columns object_id ra dec --out rows.parquet
  skastro embed pipeline.skastro folder_of_fits --method predict_proba --out classes.npy
  skastro embed galaxies.skastro hats://survey --key image.flux --columns object_id --out embedded --workers 8""",
}
# Code of the demonstration's new process: load the file, predict, save the predictions.
RELOAD = (
    "import sys, numpy, skastro; numpy.save(sys.argv[3], skastro.load(sys.argv[1]).predict(numpy.load(sys.argv[2])))"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``skastro demo``, ``skastro info MODEL``, ``skastro fit FILE`` or ``skastro embed MODEL FILE``.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Arguments after ``skastro``; None reads those of the process.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded: threads that wait soon sleep
    parser = argparse.ArgumentParser("skastro", description="Self-supervised learning for astronomical data.")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("demo", help="pretrain, probe, save and reload on data that need no download")
    show.add_argument("--out", type=Path, default=Path("skastro-demo"), help="folder for pictures and the model")
    show.add_argument("--epochs", type=int, default=12, help="passes over each set of images")
    show.add_argument("--galaxies", type=int, default=1000, help="size of the simulated survey")
    info = commands.add_parser("info", help="show what a saved model is and what it was trained on")
    info.add_argument("file", help="a file, or hf-hub:owner/name for the model of a Hugging Face repository")
    for command, task in {
        "fit": "pretrain on images on disk",
        "embed": "embed images on disk by a saved model",
    }.items():
        add_files(commands.add_parser(command, help=task, formatter_class=RawDescriptionHelpFormatter))
    chosen = parser.parse_args(arguments)
    if chosen.command == "demo":
        demo(chosen.out, epochs=chosen.epochs, galaxies=chosen.galaxies)
        return
    try:
        {"info": tell, "fit": fit_files, "embed": embed_files}[chosen.command](chosen)
    except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
        parser.error(error.args[0] if isinstance(error, KeyError) else str(error))
    except RecursionError:
        parser.error(f"{chosen.file} is damaged: what it was trained on is nested too deeply.")


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the commands that read images on disk.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of ``fit`` or ``embed``.
    """
    if parser.prog.endswith("embed"):
        parser.add_argument("model", help="a file that `skastro fit` or skastro.save wrote, or hf-hub:owner/name")
        parser.add_argument("--columns", nargs="+", default=[], help="arrays of the file that go along, such as ra dec")
        parser.add_argument("--method", default="transform", help="transform, predict or predict_proba")
        parser.add_argument("--workers", type=int, help="processes for a HATS catalog, a thread each; else one process")
    else:
        parser.add_argument("--method", default="simclr", choices=METHODS, help="how to learn")
        parser.add_argument(
            "--set", nargs="+", default=[], metavar="NAME=VALUE", help="its parameters, nested ones too"
        )
        parser.add_argument("--checkpoint", help="folder to go on from, should this be interrupted")
    survey = "; hats://PATH, or a HATS catalog's folder, embedded into another" if parser.prog.endswith("embed") else ""
    parser.add_argument(
        "file", help=f"HDF5, Zarr, .npy, Parquet, or a folder of FITS, JPEG, PNG or TIFF cutouts{survey}"
    )
    parser.add_argument("--key", help="name of the array or column of the images")
    parser.add_argument("--size", type=int, help="side in pixels of the central window")
    parser.add_argument("--fill", help="what takes the place of missing pixels: a number, or median")
    parser.add_argument("--device", default="auto", help="torch device; auto is CUDA when there")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.epilog = EXAMPLES[parser.prog.rpartition(" ")[2]]


def opened(chosen: argparse.Namespace) -> Any:
    """Open the images that the arguments name.

    Parameters
    ----------
    chosen : argparse.Namespace
        Arguments of `add_files`.

    Returns
    -------
    Source
    """
    from skastro.datasets import open_images

    return open_images(chosen.file, chosen.key, fill=None if chosen.fill is None else value(chosen.fill))


def fit_files(chosen: argparse.Namespace) -> None:
    """Pretrain on images on disk, and save the model.

    Parameters
    ----------
    chosen : argparse.Namespace
        Arguments of the command.
    """
    import skastro
    from skastro import ranks

    if chosen.out.exists():
        raise FileExistsError(f"{chosen.out} is there already: remove it, or give another name.")
    if not chosen.out.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {chosen.out.parent} to write {chosen.out.name} to.")
    settings = {name: value(text) for name, _, text in (pair.partition("=") for pair in chosen.set)}
    if chosen.checkpoint:
        settings["training__checkpoint"] = chosen.checkpoint
    embedder = getattr(skastro, METHODS[chosen.method])(
        size=chosen.size, device=chosen.device, random_state=0, verbose=1
    )
    images = opened(chosen)
    ranks.join()
    if ranks.rank() == 0:
        print(f"Learning from {len(images):,} images of shape {images.shape[1:]} ...")
    embedder.set_params(**settings).fit(images)
    if ranks.rank() == 0:
        skastro.save(embedder, chosen.out)
        print(f"{chosen.out}: skastro info tells what it is, skastro embed uses it.")


def embed_files(chosen: argparse.Namespace) -> None:
    """Embed images on disk by a saved model.

    Parameters
    ----------
    chosen : argparse.Namespace
        Arguments of the command.
    """
    from skastro import embed, load
    from skastro.survey.catalogs import PREFIX, is_survey

    if is_survey(chosen.file) and (chosen.file.startswith(PREFIX) or not chosen.out.suffix):
        embed_survey(chosen)
        return
    if chosen.workers is not None:
        raise ValueError("--workers is for a HATS catalog with --out FOLDER.")
    images = opened(chosen)
    columns = {name: images.column(name) for name in chosen.columns}
    model = load(chosen.model)
    embed(model, images, chosen.out, columns=columns, method=chosen.method)
    print(f"{chosen.out}: {len(images):,} rows.")


def embed_survey(chosen: argparse.Namespace) -> None:
    """Embed a HATS catalog by a saved model into another.

    Parameters
    ----------
    chosen : argparse.Namespace
        Arguments of the command.
    """
    from skastro.survey import open_survey, write_embeddings
    from skastro.survey.models import needs_survey

    if given := [name for name in ("size", "fill") if getattr(chosen, name) is not None]:
        raise ValueError(
            f"--{given[0]} is not for a HATS catalog: the model cuts the center, and pixels must be there."
        )
    needs_survey("lsdb", "distributed")
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if chosen.workers is not None:
            options = {"n_workers": chosen.workers, "threads_per_worker": 1, "dashboard_address": None}
            stack.enter_context(Client(stack.enter_context(LocalCluster(**options))))
        keep = chosen.columns or None
        catalog = open_survey(chosen.file, chosen.key, keep=keep)
        write_embeddings(catalog, chosen.model, chosen.key, out=chosen.out, method=chosen.method, keep=keep)
    print(f"{chosen.out}: a HATS catalog; lsdb.open_catalog opens it, skastro.survey.search_catalog searches it.")


def value(text: str) -> Any:
    """Read a parameter: a literal of Python, or a word.

    Parameters
    ----------
    text : str
        As typed.

    Returns
    -------
    object

    Examples
    --------
    >>> from skastro.cli import value
    >>> value("1e-3"), value("(1, 2)"), value("asinh")
    (0.001, (1, 2), 'asinh')
    """
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def demo(out: Path, *, epochs: int = 12, galaxies: int = 1000) -> None:
    """Run the demonstration on two data sets: real galaxies without labels, simulated galaxies with labels.

    Parameters
    ----------
    out : Path
        Folder for ``look-alikes.png``, ``label-sweep.png`` and ``galaxies.skastro``; created if it does not exist.
    epochs : int, default=12
        Passes over each set of images.
    galaxies : int, default=1000
        Size of the simulated survey.
    """
    from skastro.training import free_threads

    out.mkdir(parents=True, exist_ok=True)
    start = perf_counter()
    with threadpool_limits(free_threads()):  # of the heads too
        real_galaxies(out, epochs)
        simulated_survey(out, epochs, galaxies)
    print(f"\nDone in {perf_counter() - start:.0f} s. Pictures and the model are in {out}/.")


def real_galaxies(out: Path, epochs: int) -> None:
    """Train on the deep field's cutouts and plot galaxies beside their look-alikes.

    Parameters
    ----------
    out : Path
        Folder for the plot.
    epochs : int
        Passes over the images.
    """
    from skastro.datasets import load_hubble_deep_field
    from skastro.plotting import LookAlikesDisplay

    field = load_hubble_deep_field()
    print(f"Real sky: {len(field.images)} objects of the Hubble deep field. Learning from them without labels ...")
    embedder = embedder_for(epochs, field).fit(field.images)
    queries = np.linspace(0, len(field.images) // 2, 6).astype(int)
    display = LookAlikesDisplay.from_embedding(field.images, embedder.transform(field.images), queries)
    display.figure_.savefig(out / "look-alikes.png", dpi=150)


def simulated_survey(out: Path, epochs: int, galaxies: int) -> None:
    """Pretrain on a simulated survey, compare label counts with two baselines, and save the model.

    Parameters
    ----------
    out : Path
        Folder for the plot and the model.
    epochs : int
        Passes over the images.
    galaxies : int
        Number of galaxies to simulate.
    """
    from skastro import label_sweep, save
    from skastro.datasets import make_survey
    from skastro.plotting import LabelSweepDisplay

    survey = make_survey(galaxies, bands="gri", size=48, random_state=0)
    print(f"\nSimulated sky: {len(survey.images)} galaxies in {', '.join(survey.target_names)}. Learning ...")
    embedder = embedder_for(epochs, survey).fit(survey.images)
    methods = {
        "SimCLR": probe(embedder),
        "untrained encoder": probe(embedder_for(0, survey).fit(survey.images)),
        "raw pixels": make_pipeline(FunctionTransformer(flatten), PCA(50, random_state=0), *head()),
    }
    print("\nLabel sweep, 5 folds. Pretraining saw all images and no label (transductive).")
    counts = [galaxies // parts for parts in (40, 20, 10, 5, 2)]
    frame = label_sweep(methods, survey.images, survey.target, label_counts=counts, random_state=0, verbose=1)
    print(frame.pivot_table("score", "method", "n_labels", sort=False).round(3).to_string())
    print("The floor is the untrained encoder, averaged like the other: minutes of pretraining need not beat it.")
    LabelSweepDisplay.from_frame(frame, metric_name="accuracy").figure_.savefig(out / "label-sweep.png", dpi=150)

    known = galaxies * 4 // 5
    pipeline = probe(embedder).fit(survey.images[:known], survey.target[:known])
    save(pipeline, out / "galaxies.skastro")
    check_in_new_process(pipeline, survey.images[known:], out)


def embedder_for(epochs: int, sky: Bunch) -> Any:
    """Make the demonstration's embedder: default settings, averaged over the sky's symmetries.

    Parameters
    ----------
    epochs : int
        Passes over the images; 0 leaves the embedder untrained.
    sky : Bunch
        The data set, with the names of its bands and its pixel scale.

    Returns
    -------
    SimCLREmbedder
    """
    from skastro import SimCLREmbedder, Survey

    return SimCLREmbedder(
        survey=Survey(sky.bands, pixel_scale=sky.pixel_scale),
        average="dihedral",
        max_epochs=epochs,
        verbose=int(epochs > 0),
        random_state=0,
    )


def probe(embedder: Any) -> Pipeline:
    """Make a pipeline of a fitted, frozen embedder and a linear probe.

    Parameters
    ----------
    embedder : SimCLREmbedder
        Fitted embedder.

    Returns
    -------
    Pipeline
    """
    return make_pipeline(FrozenEstimator(embedder), *head())


def head() -> tuple[StandardScaler, LogisticRegression]:
    """Make the linear probe that all methods of the sweep use.

    Returns
    -------
    tuple of estimators
    """
    return StandardScaler(), LogisticRegression(C=0.01, max_iter=500)


def flatten(images: np.ndarray) -> np.ndarray:
    """Turn images into rows of pixels.

    Parameters
    ----------
    images : ndarray of shape (n, ...)
        Images.

    Returns
    -------
    ndarray of shape (n, n_pixels)
    """
    return images.reshape(len(images), -1)


def check_in_new_process(pipeline: Pipeline, images: np.ndarray, out: Path) -> None:
    """Load the saved model in a new process and compare its predictions with those of this process.

    Parameters
    ----------
    pipeline : Pipeline
        The saved pipeline.
    images : ndarray
        Images that the probe was not fitted on.
    out : Path
        Folder of the model.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        asked, answered = Path(folder, "images.npy"), Path(folder, "answers.npy")
        np.save(asked, images)
        subprocess.run([sys.executable, "-c", RELOAD, out / "galaxies.skastro", asked, answered], check=True)  # noqa: S603
        agreed = np.sum(np.load(answered) == pipeline.predict(images))
    print(f"\nReloaded in a new process: {agreed} of {len(images)} predictions agree.")


def tell(chosen: argparse.Namespace) -> None:
    """Print the description of a saved model, without building it.

    Parameters
    ----------
    chosen : argparse.Namespace
        With ``file``, written by `skastro.save`, or ``"hf-hub:owner/name"`` for the model of a Hugging Face repository.
    """
    import json

    from skastro.persistence import describe

    print(json.dumps(describe(chosen.file), indent=2))
