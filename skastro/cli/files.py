"""Commands over images on disk: pretrain, embed, and look around."""

import ast
import tempfile
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from skastro._extras import require

__all__ = ["METHODS", "embed_files", "explore_files", "fit_files", "value"]

METHODS = {
    "simclr": "SimCLREmbedder",
    "byol": "BYOLEmbedder",
    "moco": "MoCoEmbedder",
    "vicreg": "VICRegEmbedder",
    "barlow": "BarlowTwinsEmbedder",
    "dino": "DINOEmbedder",
}


def fit_files(chosen: Namespace) -> None:
    """Pretrain on images on disk, and save the model.

    Parameters
    ----------
    chosen : argparse.Namespace
        Arguments of the command.
    """
    import skastro
    from skastro import ranks

    _check_place(chosen.out)
    if wrong := [pair for pair in chosen.set if "=" not in pair]:
        raise ValueError(f"--set takes NAME=VALUE; got {wrong[0]!r}.")
    settings = {name: value(text) for name, _, text in (pair.partition("=") for pair in chosen.set)}
    if chosen.checkpoint:
        settings["training__checkpoint"] = chosen.checkpoint
    embedder = getattr(skastro, METHODS[chosen.method])(
        size=chosen.size, device=chosen.device, random_state=0, verbose=1
    )
    embedder.set_params(**settings)._check_params()  # a folder of many files is long to open
    images = opened(chosen)
    ranks.join()
    if ranks.rank() == 0:
        print(f"Learning from {len(images):,} images of shape {images.shape[1:]} ...")
    try:
        embedder.fit(images)
    except KeyboardInterrupt:
        if ranks.rank() == 0 and hasattr(embedder, "encoder_") and not chosen.checkpoint:  # from which it would go on
            _save(embedder, chosen.out)
            print(f"\n{chosen.out}: what was learned until now.")
        raise
    if ranks.rank() == 0:
        _save(embedder, chosen.out, chosen.checkpoint)
        print(f"{chosen.out}: skastro info tells what it is, skastro embed uses it.")


def _check_place(out: Path) -> None:
    """Refuse a place where nothing can be written, before a fit of days."""
    from skastro.unfinished import check_new

    check_new(out)
    folder = out.absolute().parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"Nothing can be written to {folder} ({error.strerror}): give another --out.") from error


def _save(model: Any, out: Path, checkpoint: str | None = None) -> None:
    """Save a model, and elsewhere if it cannot be there: the fit is over, and its checkpoints are gone."""
    import skastro

    try:
        skastro.save(model, out)
    except OSError as error:
        places = [Path(folder, out.name) for folder in (checkpoint, tempfile.gettempdir()) if folder]
        saved = next((place for place in places if _is_saved(model, place)), None)
        if saved is None:
            raise
        raise OSError(f"{out} could not be written ({error}): the model is saved as {saved}.") from error


def _is_saved(model: Any, place: Path) -> bool:
    import skastro

    try:
        skastro.save(model, place)
    except OSError:
        return False
    return True


def embed_files(chosen: Namespace) -> None:
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
    embed(model, images, chosen.out, columns=columns, method=chosen.method, invalid=chosen.invalid)
    print(f"{chosen.out}: {len(images):,} rows.")


def embed_survey(chosen: Namespace) -> None:
    """Embed a HATS catalog by a saved model into another.

    Parameters
    ----------
    chosen : argparse.Namespace
        Arguments of the command.
    """
    from skastro.survey import open_survey, write_embeddings
    from skastro.survey.models import CLUSTER

    if chosen.invalid != "raise":
        raise ValueError("--invalid is not for a HATS catalog: --fill replaces missing pixels.")
    if chosen.size is not None:
        raise ValueError("--size is not for a HATS catalog: the model cuts the center.")
    require("Embedding a HATS catalog", "lsdb", "distributed", extra="survey")
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if chosen.workers is not None:
            stack.enter_context(dask.config.set(CLUSTER))
            options = {"n_workers": chosen.workers, "threads_per_worker": 1, "dashboard_address": ":0"}
            stack.enter_context(Client(stack.enter_context(LocalCluster(**options))))
        keep = chosen.columns or None
        catalog = open_survey(chosen.file, chosen.key, keep=keep)
        options = {} if chosen.fill is None else {"fill": value(chosen.fill)}
        write_embeddings(catalog, chosen.model, chosen.key, out=chosen.out, method=chosen.method, keep=keep, **options)
    print(f"{chosen.out}: a HATS catalog; lsdb.open_catalog opens it, skastro.survey.search_catalog searches it.")


def explore_files(chosen: Namespace) -> None:
    """Make a page to look around in a map of images on disk.

    Parameters
    ----------
    chosen : argparse.Namespace
        Arguments of the command.
    """
    from skastro import explore

    images = opened(chosen)
    ids, ra, dec = (None if name is None else images.column(name) for name in (chosen.ids, chosen.ra, chosen.dec))
    page = explore(
        chosen.model,
        images,
        ids=ids,
        ra=ra,
        dec=dec,
        columns={name: images.column(name) for name in chosen.columns},
        labels=chosen.labels,
        bands=chosen.bands,
        title=chosen.title or Path(chosen.file).stem,
        method=chosen.method,
        verbose=1,
        path=chosen.out,
    )
    print(f"{page}: {len(images):,} objects, {page.stat().st_size / 1e6:.1f} MB. Open it in a browser.")


def opened(chosen: Namespace) -> Any:
    """Open the images that the arguments name.

    Parameters
    ----------
    chosen : argparse.Namespace
        Arguments of the command.

    Returns
    -------
    Source
    """
    from skastro.datasets import open_images
    from skastro.datasets.disk import Cutouts

    fill = None if chosen.fill is None else value(chosen.fill)
    if chosen.command == "fit":
        images = open_images(chosen.file, chosen.key, fill=fill)
        if chosen.size is None or not isinstance(images.shelf, Cutouts):
            return images  # the embedder cuts, once it has turned them
    return open_images(chosen.file, chosen.key, size=chosen.size, fill=fill)


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
    >>> from skastro.cli.files import value
    >>> value("1e-3"), value("(1, 2)"), value("asinh")
    (0.001, (1, 2), 'asinh')
    """
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
