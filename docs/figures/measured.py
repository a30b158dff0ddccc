"""Where the figures of the guide have their numbers from: the files and tables of benchmarks."""

import re
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parents[2] / "benchmarks"


def rows(name: str) -> pd.DataFrame:
    """Read a file of rows."""
    return pd.read_csv(FOLDER / name)


def table(section: str, column: str) -> list[list[str]]:
    """Read the cells below the header of the first table of a section of RESULTS.md that has a column of that name."""
    text = (FOLDER / "RESULTS.md").read_text(encoding="utf-8").split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = (line for line in text.split("\n\n") if line.startswith("|") and f"| {column} |" in line.split("\n")[0])
    return [[cell.strip(" *`") for cell in line.strip("|").split("|")] for line in next(lines).strip().split("\n")[2:]]


def numbers(cell: str) -> list[float]:
    """Read all numbers of a cell, which may have a true minus and commas of thousands."""
    return [float(number.replace(",", "").replace("−", "-")) for number in re.findall(r"[−-]?\d[\d,]*\.?\d*", cell)]
