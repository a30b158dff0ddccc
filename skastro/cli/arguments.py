"""The commands and their arguments."""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skastro.cli.card import tell
from skastro.cli.demonstration import demo
from skastro.cli.files import METHODS, embed_files, explore_files, fit_files

__all__ = ["main"]

EXAMPLES = {
    "skastro": """examples:
  skastro demo                                                  the main job, on data that need no download
  skastro fit cutouts/ --size 64 --out galaxies.skastro         learn from a folder of FITS or JPEG cutouts
  skastro explore galaxies.skastro cutouts/ --size 64 --out map.html   look around in a map of them
  skastro embed galaxies.skastro sky.h5 --out rows.parquet      a row of numbers for each of many more
  skastro info galaxies.skastro                                 what is in that file?""",
    "demo": """example:
  skastro demo --out skastro-demo""",
    "info": """examples:
  skastro info galaxies.skastro
  skastro info hf-hub:owner/name --json""",
    "fit": """examples:
  skastro fit cutouts.h5 --key images --size 64 --set average=dihedral --out galaxies.skastro
  skastro fit sky.zarr --method byol --set encoder=resnet18 max_epochs=50 --checkpoint run --out galaxies.skastro
  torchrun --nproc-per-node 4 --no-python skastro fit cutouts.h5 --out galaxies.skastro     (on 4 GPUs)""",
    "embed": """examples:
  skastro embed galaxies.skastro cutouts.h5 --key images --columns object_id ra dec --out rows.parquet
  skastro embed pipeline.skastro folder_of_fits --method predict_proba --out classes.npy
  skastro embed galaxies.skastro hats://survey --key image.flux --columns object_id --out embedded --workers 8""",
    "explore": """examples:
  skastro explore galaxies.skastro folder_of_fits --size 64 --ids filenames --out page.html
  skastro explore rows.npy cutouts.h5 --ids object_id --ra ra --dec dec --columns redshift --out page.html""",
}
IMAGES = "HDF5, Zarr, .npy, Parquet, or a folder of FITS, JPEG, PNG or TIFF cutouts"
SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend"}  # each --name adds to those before
MODEL = "a file that `skastro fit` or skastro.save wrote, or hf-hub:owner/name"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``skastro demo``, ``info MODEL``, ``fit FILE``, ``embed MODEL FILE`` or ``explore MODEL FILE``.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Arguments after ``skastro``; None reads those of the process.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch is loaded: threads that wait soon sleep
    parser = described(ArgumentParser, "skastro", description="Self-supervised learning for astronomical data.")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (add_demo, add_info, add_fit, add_embed, add_explore):
        add(commands)
    chosen = parser.parse_args(arguments)
    if chosen.command == "demo":
        demo(chosen.out, epochs=chosen.epochs, galaxies=chosen.galaxies)
        return
    try:
        chosen.run(chosen)
    except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
        parser.error(error.args[0] if isinstance(error, KeyError) else str(error))
    except RecursionError:
        parser.error(f"{chosen.file} is damaged: what it was trained on is nested too deeply.")
    except KeyboardInterrupt:
        sys.exit(130)  # as shells say it


def described(make: Any, command: str, **options: Any) -> ArgumentParser:
    """Make a parser that shows examples."""
    return make(command, epilog=EXAMPLES[command], formatter_class=RawDescriptionHelpFormatter, **options)


def add_demo(commands: Any) -> None:
    """Add the demonstration."""
    task = "pretrain, probe, save and reload on data that need no download"
    parser = described(commands.add_parser, "demo", help=task)
    parser.add_argument("--out", type=Path, default=Path("skastro-demo"), help="folder for pictures and the model")
    parser.add_argument("--epochs", type=int, default=4, help="passes over each set of images")
    parser.add_argument("--galaxies", type=int, default=1000, help="size of the simulated survey")


def add_info(commands: Any) -> None:
    """Add the card of a model."""
    parser = described(commands.add_parser, "info", help="show what a saved model is and what it was trained on")
    parser.add_argument("file", help="a file, or hf-hub:owner/name for the model of a Hugging Face repository")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=tell)


def add_fit(commands: Any) -> None:
    """Add pretraining."""
    parser = described(commands.add_parser, "fit", help="pretrain on images on disk")
    parser.add_argument("--method", default="simclr", choices=METHODS, help="how to learn")
    parser.add_argument("--set", **SEVERAL, default=[], metavar="NAME=VALUE", help="its parameters, nested ones too")
    parser.add_argument("--checkpoint", help="folder to go on from, should this be interrupted")
    add_images(parser, IMAGES)
    parser.add_argument("--device", default="auto", help="torch device; auto is CUDA when there")
    parser.set_defaults(run=fit_files)


def add_embed(commands: Any) -> None:
    """Add embedding."""
    parser = described(commands.add_parser, "embed", help="embed images on disk by a saved model")
    parser.add_argument("model", help=MODEL)
    parser.add_argument("--columns", **SEVERAL, default=[], help="arrays of the file that go along, such as ra dec")
    parser.add_argument("--method", default="transform", help="transform, predict or predict_proba")
    parser.add_argument(
        "--invalid", default="raise", choices=("raise", "nan"), help="what to do with images that cannot be read"
    )
    parser.add_argument("--workers", type=int, help="processes for a HATS catalog, a thread each; else one process")
    add_images(parser, f"{IMAGES}; hats://PATH, or a HATS catalog's folder, embedded into another")
    parser.set_defaults(run=embed_files)


def add_explore(commands: Any) -> None:
    """Add the page to look around in."""
    task = "make a page to look around in a map of images on disk"
    parser = described(commands.add_parser, "explore", help=task)
    parser.add_argument("model", help=f"{MODEL}; or what `skastro embed` wrote")
    for name, what in {"ids": "names to search for", "ra": "degrees, to search by", "dec": "degrees"}.items():
        parser.add_argument(f"--{name}", metavar="NAME", help=f"array of the file: {what}")
    parser.add_argument("--columns", **SEVERAL, default=[], help="arrays of the file to color by")
    parser.add_argument("--labels", **SEVERAL, default=[], help="names of the labels on the keys 1 to 9")
    parser.add_argument("--bands", **SEVERAL, type=int, help="one or three bands to show, such as 3 2 1")
    parser.add_argument("--title", help="of the page; the name of the file of images, if not given")
    parser.add_argument("--method", default="auto", choices=("auto", "umap", "tsne", "pca"), help="of the map")
    add_images(parser, IMAGES)
    parser.set_defaults(run=explore_files)


def add_images(parser: ArgumentParser, formats: str) -> None:
    """Add what the commands over images share."""
    parser.add_argument("file", help=formats)
    parser.add_argument("--key", help="name of the array or column of the images")
    parser.add_argument(
        "--size", type=int, help="side in pixels of the central window, to which files are cut as they are read"
    )
    parser.add_argument("--fill", help="what takes the place of missing pixels: a number, or median")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
