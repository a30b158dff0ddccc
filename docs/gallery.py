"""Which examples run when the pages are built, and how small."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.setdefault("SKASTRO_DATA", str(ROOT.parent / "shared" / "data")))  # examples have no __file__
SIMULATED = r"plot_(photometric_redshifts|hybrid_rings)"  # those that need no data
SMALL = {  # in the order of the gallery
    "plot_from_files_to_a_shared_model": ["--epochs", "2"],
    "plot_map_of_galaxies": ["--epochs", "0", "--galaxies", "800"],
    "plot_survey_by_workers": ["--epochs", "1", "--galaxies", "3000", "--sample", "1000"],
    "plot_radio_galaxies": ["--epochs", "2"],
    "plot_does_pretraining_pay": ["--epochs", "1", "--file", str(ROOT / "benchmarks" / "protocol.csv")],
    "plot_augmentations": ["--epochs", "1"],
    "plot_few_radio_labels": ["--epochs", "1", "--only", "labels", "--counts", "36", "145"],
    "plot_photometric_redshifts": ["--counts", "100"],
    "plot_hybrid_rings": ["--images", "400", "--epochs", "1", "--counts", "60"],
    "plot_astroclip": ["--pairs", "400", "--epochs", "1", "--align", "10", "--images", "simclr"],
    "plot_supernova_spectra": ["--epochs", "5"],
    "plot_map_of_spectra": ["--epochs", "5"],
    "plot_finding": ["--epochs", "1", "--galaxies", "300"],
    "plot_light_curves": ["--epochs", "2", "--tuning-epochs", "1", "--trees", "100"],
}
FIGURES = Path(tempfile.gettempdir(), "skastro-figures")


def arguments(gallery_conf: dict, script_vars: dict) -> list[str]:
    """Make the arguments of an example."""
    return [*SMALL[Path(script_vars["src_file"]).stem], "--out", str(FIGURES)]


class Order:
    """Order of the examples of a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> int:
        """Tell the place of a file."""
        return list(SMALL).index(Path(name).stem)
