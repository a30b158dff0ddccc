"""Models on the Hugging Face hub: fetch a file, upload a fitted model with its card.

The hub is asked only when one of these functions is called, and `huggingface_hub` is imported only then. What the local
cache holds is not asked for again. Without a connection there is one sentence at once, not a minute of new attempts.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator

from skastro import __version__
from skastro._facts import in_words, on_one_line
from skastro.persistence import foreign_classes, parts, save

__all__ = ["fetch", "hub_name", "model_card", "push_to_hub"]

PREFIX = "hf-hub:"
MODEL = "model.skastro"  # the file that a repository's name alone stands for
PATIENCE = 3.0  # seconds for a first connection
HTTP = {"httpx", "httpx2", "requests"}  # the libraries that huggingface_hub has spoken through
TAGS = ["astronomy", "self-supervised-learning", "scikit-learn"]


def hub_name(name: str | os.PathLike[str]) -> tuple[str, str | None] | None:
    """Read the name of a repository from ``"hf-hub:owner/name"`` or ``"hf-hub:owner/name@revision"``.

    Parameters
    ----------
    name : str or path-like
        Name of a repository, or anything else. A path-like object is always a local file.

    Returns
    -------
    tuple of str and (str or None), or None
        Repository and revision; None if the name does not start with ``"hf-hub:"``.

    Raises
    ------
    ValueError
        If it starts so, but is of another form.

    Examples
    --------
    >>> from skastro.hub import hub_name
    >>> hub_name("hf-hub:owner/galaxies@v1")
    ('owner/galaxies', 'v1')
    >>> hub_name("galaxies.skastro") is None
    True
    """
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return None
    repo_id, at, revision = name.removeprefix(PREFIX).partition("@")
    if repo_id.count("/") != 1 or bool(at) != bool(revision):
        raise ValueError(f"{name!r} is not of the form {PREFIX}owner/name or {PREFIX}owner/name@revision.")
    return repo_id, revision or None


def fetch(repo_id: str, filename: str, *, revision: str | None = None) -> Path:
    """Return a file of a Hugging Face repository, from the local cache if it is there, else downloaded.

    Parameters
    ----------
    repo_id : str
        Name of the repository, ``"owner/name"``.
    filename : str
        Path of the file in the repository.
    revision : str, default=None
        Branch, tag or full hash of a commit; None is the main branch. A file of a branch that is in the cache is taken
        as it is, though the branch may have moved on. A tag or a hash names one state for good.

    Returns
    -------
    Path
        The file in the cache. It is not to be changed.

    Raises
    ------
    ConnectionError
        If the file is not in the cache and the hub cannot be reached, or ``HF_HUB_OFFLINE`` is set. This takes
        about three seconds at most.
    FileNotFoundError
        If there is no such repository, revision or file, or the repository is private and you are not logged in.
    PermissionError
        If the repository is gated, or the hub refuses your token.
    ValueError
        If `repo_id` is not the name of a repository.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils import LocalEntryNotFoundError

    _check_name(repo_id)
    get = partial(hf_hub_download, repo_id, filename, revision=revision, endpoint=constants.ENDPOINT)
    with suppress(LocalEntryNotFoundError):
        return Path(get(local_files_only=True))
    at = f" at revision {revision}" if revision else ""
    with _asking(repo_id, f"download {filename} of {repo_id}{at}", "connect once, or give a local file"):
        return Path(get())


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
    local cache, as `fetch` has it: give them the revision.

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

    _check_name(repo_id, owned=True)
    if not filename.endswith(".skastro"):
        raise ValueError(f"filename= must end in .skastro, {filename!r} does not.")
    with TemporaryDirectory() as folder:
        file = Path(folder, MODEL)
        save(estimator, file, trusted=trusted)
        card = model_card(
            estimator, repo_id=repo_id, filename=filename, license=license, citation=citation, scores=scores
        )
        files = [CommitOperationAdd(filename, file), CommitOperationAdd("README.md", card.encode())]
        with _asking(repo_id, f"upload to {repo_id}", "connect, and push again"):
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
    >>> from skastro.hub import model_card
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


def _check_name(repo_id: str, *, owned: bool = False) -> None:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    wrong = f"{repo_id!r} is not the name of a Hugging Face repository: give owner/name, of letters, digits, -, _ and ."
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(wrong) from error
    if owned and "/" not in repo_id:
        raise ValueError(wrong)


@contextmanager
def _asking(repo_id: str, task: str, advice: str) -> Iterator[None]:
    """Ask the hub if it can be reached, and say in one sentence what fails."""
    from huggingface_hub import constants, utils

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError(f"Cannot {task} while HF_HUB_OFFLINE is set: unset it and {advice}.")
    if not _reachable(constants.ENDPOINT):
        raise ConnectionError(f"Cannot {task}, since {constants.ENDPOINT} cannot be reached: {advice}.")
    page = f"{constants.ENDPOINT}/{repo_id}"
    login = "log in with huggingface_hub.login()"
    try:
        yield
    except utils.GatedRepoError as error:
        raise PermissionError(f"Cannot {task}, which is gated: accept its terms at {page} and {login}.") from error
    except utils.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"Cannot {task}: there is no such repository that you may see; check the name, or {login} if it is private."
        ) from error
    except utils.RevisionNotFoundError as error:
        raise FileNotFoundError(f"Cannot {task}: there is no such revision; see {page}/commits/main.") from error
    except utils.LocalEntryNotFoundError as error:  # an EntryNotFoundError too, though the hub never said so
        raise ConnectionError(f"Cannot {task}, since {constants.ENDPOINT} does not answer: {advice}.") from error
    except utils.EntryNotFoundError as error:
        raise FileNotFoundError(f"Cannot {task}: there is no such file; see {page}/tree/main.") from error
    except utils.LocalTokenNotFoundError as error:
        raise PermissionError(f"Cannot {task} without a token: {login}.") from error
    except utils.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(f"Cannot {task}: the hub refuses the token; {login}, as one who may.") from error
        if status in (408, 429) or status >= 500:
            raise ConnectionError(f"Cannot {task}: the hub is busy (status {status}); try again later.") from error
        reason = on_one_line(error.server_message or f"status {status}").rstrip(".")
        raise ValueError(f"Cannot {task}: the hub refuses it ({reason}).") from error
    except ValueError as error:  # of the card's front matter, in several lines
        raise ValueError(f"Cannot {task}: {on_one_line(error)}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in HTTP:
            raise
        raise ConnectionError(f"Cannot {task}, since the connection broke: try again.") from error


def _reachable(url: str) -> bool:
    """Try to connect, to the proxy if there is one; the look-up of a name has no time limit but this one."""
    target = urlsplit(url)
    proxies = {} if proxy_bypass(target.hostname or "") else getproxies()
    if proxy := proxies.get(target.scheme) or proxies.get("all"):
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    connected = Event()

    def connect() -> None:
        with suppress(OSError, UnicodeError), socket.create_connection(address, PATIENCE):
            connected.set()

    attempt = Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(PATIENCE)
    return connected.is_set()
