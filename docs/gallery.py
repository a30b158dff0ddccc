"""Which examples run when the pages are built, and how small."""

import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.setdefault("SKASTRO_DATA", str(ROOT.parent / "shared" / "data")))  # examples have no __file__
# Arguments by which examples take a minute at most, in the order of the gallery. Those of None are shown, and not run.
SMALL = {
    "plot_from_files_to_a_shared_model": ["--epochs", "2"],
    "plot_map_of_galaxies": ["--epochs", "0", "--galaxies", "800"],
    "plot_radio_galaxies": ["--epochs", "2"],
    "plot_does_pretraining_pay": ["--epochs", "1", "--file", str(ROOT / "benchmarks" / "protocol.csv")],
    "plot_augmentations": None,
    "plot_few_radio_labels": None,
    "plot_photometric_redshifts": None,
    "plot_hybrid_rings": ["--images", "400", "--epochs", "1", "--counts", "60"],
    "plot_astroclip": None,
    "plot_supernova_spectra": ["--epochs", "5"],
    "plot_map_of_spectra": ["--epochs", "5"],
    "plot_light_curves": ["--epochs", "2", "--tuning-epochs", "1", "--trees", "100"],
    "plot_finding": ["--epochs", "1", "--galaxies", "300"],
    "plot_survey_by_workers": None,
}
SIMULATED = ["plot_hybrid_rings"]  # those that need no data
RUN = "|".join([name for name, small in SMALL.items() if small is not None] if DATA.is_dir() else SIMULATED)
FIGURES = Path(tempfile.gettempdir(), "skastro-figures")
THUMBNAILS = ("few_radio_labels", "photometric_redshifts", "pairs")  # figures that stand for examples that are not run


def arguments(gallery_conf: dict, script_vars: dict) -> list[str]:
    """Make the arguments of an example."""
    return [*(SMALL[Path(script_vars["src_file"]).stem] or []), "--out", str(FIGURES)]


def draw_thumbnails(app: Any) -> None:
    """Draw them from what was measured, before the gallery looks for them."""
    folder = ROOT / "docs" / "generated"
    folder.mkdir(exist_ok=True)
    for name in THUMBNAILS:
        with plt.rc_context(app.config.plot_rcparams):
            runpy.run_path(str(ROOT / "docs" / "figures" / f"{name}.py"))
            plt.savefig(folder / f"{name}.png", dpi=110)
            plt.close("all")


class Order:
    """Order of the examples of a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> int:
        """Tell the place of a file."""
        return list(SMALL).index(Path(name).stem)
