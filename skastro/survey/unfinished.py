"""What is written beside its place until it is whole, and gone on with by the same call."""

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Unfinished"]


class Unfinished:
    """A folder in the making: ``out.part``, and in ``out.part.json`` what it is made of.

    Parameters
    ----------
    out : Path
        Folder to be.

    Attributes
    ----------
    path : Path
        Where it is written.

    Raises
    ------
    FileExistsError
        If the folder is there already.
    FileNotFoundError
        If its own folder is not there.
    """

    def __init__(self, out: Path) -> None:
        if out.exists():
            raise FileExistsError(f"{out} is there already: remove it, or give another name.")
        if not out.absolute().parent.is_dir():
            raise FileNotFoundError(f"There is no folder {out.parent} to write {out.name} to.")
        self.out = out
        self.path = out.with_name(f"{out.name}.part")
        self.record = out.with_name(f"{out.name}.part.json")

    def claim(self, identity: dict[str, Any]) -> None:
        """Write down what the folder is made of, and refuse one that is made of something else.

        Parameters
        ----------
        identity : dict
            Of plain values.

        Raises
        ------
        ValueError
            If the folder was begun with something else, or by somebody else.
        """
        if self.path.exists():
            if not self.record.exists():
                raise ValueError(f"{self.path} is there, and not begun by skastro: remove it, or give another name.")
            known = json.loads(self.record.read_text())
            if other := [name for name, value in identity.items() if known.get(name) != value]:
                raise ValueError(f"{self.path} was begun with another {other[0]}: remove it, or give another name.")
        partial = self.record.with_suffix(".tmp")
        partial.write_text(json.dumps(identity))
        os.replace(partial, self.record)

    def finish(self) -> Path:
        """Give the whole its name.

        Returns
        -------
        Path
        """
        os.replace(self.path, self.out)
        self.record.unlink()
        return self.out
