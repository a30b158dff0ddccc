"""Cards of models, and uploads with them to the Hugging Face hub."""

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator

from skastro import __version__
from skastro._facts import in_words, on_one_line
from skastro.hub import MODEL, PREFIX, asking, check_name
from skastro.persistence import foreign_classes, parts, save

__all__ = ["model_card", "push_to_hub"]

TAGS = ["astronomy", "self-supervised-learning", "scikit-learn"]


def push_to_hub(
    estimator: BaseEstimator,
    repo_id: str,
    *,
    filename: str = MODEL,
    license: str | None = None,  # noqa: A002 the hub's word
    citation: str | None = None,
    scores: Mapping[str, float] | None = None,
    private: bool = False,
    token: str | bool | None = None,
    message: str = "Upload a model of skastro",
    trusted: Sequence[str] = (),
) -> str:
    """Upload a fitted model and its card to a Hugging Face repository, in one commit.

    The repository is created if it is not there. Its ``README.md`` is replaced by the card. If the model cannot be
    saved, the hub is not asked at all. Who has loaded an earlier state of the main branch goes on loading that from the
    local cache, as `skastro.hub.fetch` has it: give them the revision.

    Parameters
    ----------
    estimator : estimator
        What `skastro.save` can keep.
    repo_id : str
        Name of the repository, ``"owner/name"``.
    filename : str, default="model.skastro"
        Name of the file in the repository. ``skastro.load("hf-hub:owner/name")`` reads the default one.
    license : str, default=None
        License of the model, by the hub's identifier, such as ``"cc-by-4.0"``. For the card, as the next two are.
    citation : str, default=None
        What to cite, in words or as BibTeX.
    scores : mapping of str to float, default=None
        Results to report by name, such as ``{"balanced accuracy, 5 folds": 0.91}``.
    private : bool, default=False
        Whether a repository that is created is private. One that is there stays as it is.
    token : str or bool, default=None
        Access token with the right to write; None takes that of `huggingface_hub.login`.
    message : str, default="Upload a model of skastro"
        First line of the commit.
    trusted : sequence of str, default=()
        Full names of other estimator classes that the model may hold, as `skastro.save` takes them.

    Returns
    -------
    str
        Address of the commit. Its last part is the revision, for ``"hf-hub:owner/name@revision"``.

    Raises
    ------
    ConnectionError
        If the hub cannot be reached, or ``HF_HUB_OFFLINE`` is set.
    PermissionError
        If you are not logged in, or have no right to write there.
    TypeError
        If the model holds what `skastro.save` cannot keep, or a score is not a number.
    ValueError
        If `repo_id` or `filename` cannot be used, or the hub does not accept the card, as with an unknown license.

    See Also
    --------
    model_card : Read the card before.
    skastro.persistence.load : Load the model, by ``"hf-hub:owner/name"``.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    check_name(repo_id, owned=True)
    if not filename.endswith(".skastro"):
        raise ValueError(f"filename= must end in .skastro, {filename!r} does not.")
    with TemporaryDirectory() as folder:
        file = Path(folder, MODEL)
        save(estimator, file, trusted=trusted)
        card = model_card(
            estimator, repo_id=repo_id, filename=filename, license=license, citation=citation, scores=scores
        )
        files = [CommitOperationAdd(filename, file), CommitOperationAdd("README.md", card.encode())]
        with asking(repo_id, f"upload to {repo_id}", "connect, and push again"):
            api = HfApi(endpoint=constants.ENDPOINT, token=token)
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.create_commit(repo_id, files, commit_message=message).commit_url)


def model_card(
    estimator: BaseEstimator,
    *,
    repo_id: str | None = None,
    filename: str = MODEL,
    license: str | None = None,  # noqa: A002 the hub's word
    citation: str | None = None,
    scores: Mapping[str, float] | None = None,
) -> str:
    """Write the card of a model: what it is, what it has seen, how to load it.

    It holds what the fitted model knows and what is given here, and nothing else.

    Parameters
    ----------
    estimator : estimator
        A fitted model, of any depth.
    repo_id : str, default=None
        Name of the repository it is for, ``"owner/name"``.
    filename : str, default="model.skastro"
        Name of its file.
    license : str, default=None
        License of the model, by the hub's identifier.
    citation : str, default=None
        What to cite, in words or as BibTeX.
    scores : mapping of str to float, default=None
        Results to report by name.

    Returns
    -------
    str
        Markdown, with the front matter in YAML that the hub reads.

    Raises
    ------
    TypeError
        If a score is not a number.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from skastro.cards import model_card
    >>> card = model_card(Ridge(alpha=3.0), repo_id="owner/colors", license="mit", scores={"R2": 0.875})
    >>> print(card.partition(", saved by")[0])
    ---
    library_name: skastro
    license: mit
    tags:
    - astronomy
    - self-supervised-learning
    - scikit-learn
    ---
    <BLANKLINE>
    # colors
    <BLANKLINE>
    A `Ridge` for scikit-learn
    >>> "- R2: 0.875" in card, 'skastro.load("hf-hub:owner/colors")' in card
    (True, True)
    """
    from huggingface_hub import ModelCardData

    kind = type(estimator).__name__
    front = ModelCardData(library_name="skastro", license=license, tags=[*TAGS]).to_yaml()
    sections = [
        f"---\n{front}\n---",
        f"# {repo_id.rpartition('/')[2] if repo_id else kind}",
        f"A `{kind}` for scikit-learn, saved by skastro {__version__}.",
        "## How to load it",
        _code(_recipe(repo_id, filename, foreign_classes(estimator)), "python"),
        "## What it is",
        *_identity(estimator),
        *_seen(estimator),
    ]
    if scores:
        sections += ["## Scores", _listed({name: _number(name, value) for name, value in scores.items()})]
    if citation:
        sections += ["## How to cite it", _code(citation.strip()) if citation.lstrip().startswith("@") else citation]
    return "\n\n".join(sections) + "\n"


def _identity(estimator: BaseEstimator) -> list[str]:
    """Tell classes and parameters, and what a head or a search has learned of itself."""
    with config_context(print_changed_only=True):
        told = [_code(estimator.__repr__(N_CHAR_MAX=10**9), "python")]  # by default it is cut
    labels = getattr(estimator, "classes_", None)
    learned = {
        "Classes told apart": labels.tolist() if isinstance(labels, np.ndarray) and labels.ndim == 1 else None,
        "Chosen by the search": getattr(estimator, "best_params_", None),
    }
    return told + ([_listed(learned)] if any(learned.values()) else [])


def _seen(estimator: BaseEstimator) -> list[str]:
    """Tell what each part was trained on; parts that say the same are told once."""
    fitted = [part for part in parts(estimator) if "provenance_" in getattr(part, "__dict__", {})]
    told = [f"### {type(part).__name__}\n\n{_listed(in_words(part.provenance_))}" for part in fitted]
    return ["## What it has seen", *dict.fromkeys(told)] if told else []


def _recipe(repo_id: str | None, filename: str, foreign: Sequence[str]) -> str:
    """Write the code that loads a model."""
    trusted = f", trusted={list(foreign)}".replace("'", '"') if foreign else ""
    if repo_id and filename != MODEL:
        source = f'fetch("{repo_id}", "{filename}")'
        return f"import skastro\nfrom skastro.hub import fetch\n\nmodel = skastro.load({source}{trusted})"
    return f'import skastro\n\nmodel = skastro.load("{PREFIX + repo_id if repo_id else filename}"{trusted})'


def _listed(facts: Mapping[str, Any]) -> str:
    """List the facts that are known."""
    return "\n".join(f"- {name}: {on_one_line(value)}" for name, value in facts.items() if value is not None)


def _number(name: str, value: Any) -> str:
    if not isinstance(value, Real):
        raise TypeError(f"scores= maps names to numbers, not {name!r} to {value!r}.")
    return f"{float(value):.6g}"


def _code(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"
