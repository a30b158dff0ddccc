"""What a fitted estimator knows of its training, in words."""

from collections.abc import Mapping
from typing import Any

__all__ = ["in_words", "on_one_line"]

# What readers call the entries of a provenance; one that is not here goes by its own name.
NAMES = {
    "n_images": "Images seen",
    "n_spectra": "Spectra seen",
    "n_wavelengths": "Wavelengths of a spectrum",
    "image_shape": "Shape of an image (bands, height, width)",
    "size": "Window that the encoder sees",
    "pixel_scale": "Pixel scale (arcseconds)",
}


def in_words(facts: Mapping[str, Any]) -> dict[str, str]:
    """Name facts for readers, each with its value on one line; those that are not known are left out.

    Parameters
    ----------
    facts : mapping of str to object
        Entries of a provenance, or facts under the names they shall have.

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> from skastro._facts import in_words
    >>> in_words({"n_images": 40, "image_shape": (3, 36, 36), "survey": None, "versions": {"torch": "2.14"}})
    {'Images seen': '40', 'Shape of an image (bands, height, width)': '3, 36, 36', 'Versions': 'torch 2.14'}
    """
    known = {key: value for key, value in facts.items() if value is not None}
    return {NAMES.get(key, _title(key)): on_one_line(value) for key, value in known.items()}


def on_one_line(value: Any) -> str:
    """Write a value on one line.

    Parameters
    ----------
    value : object
        Plain value, mapping or sequence.

    Returns
    -------
    str

    Examples
    --------
    >>> from skastro._facts import on_one_line
    >>> on_one_line({"g": [1, 2], "r": None})
    'g 1, 2, r None'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {on_one_line(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(on_one_line, value))
    return " ".join(str(value).split())


def _title(key: str) -> str:
    return key[:1].upper() + key[1:].replace("_", " ")
