"""What a saved model is, for readers and for programs."""

import json
from argparse import Namespace
from collections.abc import Mapping
from textwrap import fill
from typing import Any

from skastro._facts import in_words

__all__ = ["card", "tell"]


def tell(chosen: Namespace) -> None:
    """Print the description of a saved model, without building it.

    Parameters
    ----------
    chosen : Namespace
        With ``file``, written by `skastro.save`, or ``"hf-hub:owner/name"`` for the model of a Hugging Face repository.
    """
    from skastro.persistence import describe

    about = describe(chosen.file)
    print(json.dumps(about, indent=2) if chosen.json else card(chosen.file, about))


def card(name: str, about: Mapping[str, Any]) -> str:
    """Write a description for readers.

    Parameters
    ----------
    name : str
        Of the file.
    about : mapping
        What `skastro.persistence.describe` tells.

    Returns
    -------
    str

    Examples
    --------
    >>> from skastro.cli.card import card
    >>> about = {"classes": ["sklearn.linear_model._ridge.Ridge"], "provenance": [{"n_images": 40}], "skastro": "0.1.0"}
    >>> print(card("galaxies.skastro", about))
    galaxies.skastro, written by skastro 0.1.0
    <BLANKLINE>
    What it has seen
      Images seen   40
    <BLANKLINE>
    What it is made of
      scikit-learn  Ridge
    """
    # A class of another library may keep anything under that name.
    seen = [in_words(facts if isinstance(facts, Mapping) else {"told": facts}) for facts in about["provenance"]]
    made: dict[str, list[str]] = {}
    for kind in about["classes"]:
        library, short = kind.split(".")[0], kind.split(".")[-1]
        made.setdefault("scikit-learn" if library == "sklearn" else library, []).append(short)
    blocks = [("What it has seen", facts) for facts in seen if facts]
    blocks.append(("What it is made of", {library: ", ".join(names) for library, names in made.items()}))
    width = max(len(word) for _, facts in blocks for word in facts)
    lines = [f"{name}, written by skastro {about['skastro'] or 'of an unknown version'}"]
    for title, facts in blocks:
        lines += ["", title]
        lines += [
            fill(text, 100, initial_indent=f"  {word:{width}}  ", subsequent_indent=" " * (width + 4))
            for word, text in facts.items()
        ]
    return "\n".join(lines)
