"""Packages that come with an extra: imported where they are used, and asked for by name where they are missing."""

from importlib.util import find_spec

__all__ = ["require"]

PACKAGES = {"PIL": "pillow", "umap": "umap-learn"}  # called otherwise than the module


def require(purpose: str, *modules: str, extra: str) -> None:
    """Refuse what needs modules that are not installed.

    Parameters
    ----------
    purpose : str
        What needs them: the subject of the error's sentence.
    *modules : str
        Names of top-level modules.
    extra : str
        The extra of skastro that brings them.

    Raises
    ------
    ImportError
        If one is missing: which, and how to install it.

    Examples
    --------
    >>> from skastro._extras import require
    >>> require("Reading Zarr", "zarr", extra="zarr")
    """
    if missing := [PACKAGES.get(name, name) for name in modules if find_spec(name) is None]:
        raise ImportError(f"{purpose} needs {' and '.join(missing)}: pip install skastro[{extra}].")
