"""The Hugging Face hub: names of repositories, and their files.

The hub is asked only when one of these functions is called, and `huggingface_hub` is imported only then. What the local
cache holds is not asked for again. Without a connection there is one sentence at once, not a minute of new attempts.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from skastro._facts import on_one_line

__all__ = ["fetch", "hub_name"]

PREFIX = "hf-hub:"
MODEL = "model.skastro"  # the file that a repository's name alone stands for
PATIENCE = 3.0  # seconds for a first connection
HTTP = {"httpx", "httpx2", "requests"}  # the libraries that huggingface_hub has spoken through


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

    check_name(repo_id)
    get = partial(hf_hub_download, repo_id, filename, revision=revision, endpoint=constants.ENDPOINT)
    with suppress(LocalEntryNotFoundError):
        return Path(get(local_files_only=True))
    at = f" at revision {revision}" if revision else ""
    with asking(repo_id, f"download {filename} of {repo_id}{at}", "connect once, or give a local file"):
        return Path(get())


def local_path(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the model of a Hugging Face repository as a local file, fetched if need be; a path as it is.

    Parameters
    ----------
    name : str or path-like
        ``"hf-hub:owner/name"``, with ``"@revision"`` behind it if need be, or a local file.

    Returns
    -------
    str or path-like

    Examples
    --------
    >>> from skastro.hub import local_path
    >>> local_path("galaxies.skastro")
    'galaxies.skastro'
    """
    if (repository := hub_name(name)) is None:
        return name
    return fetch(repository[0], MODEL, revision=repository[1])


def check_name(repo_id: str, *, owned: bool = False) -> None:
    """Refuse what is not the name of a repository.

    Parameters
    ----------
    repo_id : str
        Name of a repository.
    owned : bool, default=False
        Whether it must have an owner.

    Raises
    ------
    ValueError
        If it is none.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    wrong = f"{repo_id!r} is not the name of a Hugging Face repository: give owner/name, of letters, digits, -, _ and ."
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(wrong) from error
    if owned and "/" not in repo_id:
        raise ValueError(wrong)


@contextmanager
def asking(repo_id: str, task: str, advice: str) -> Iterator[None]:
    """Ask the hub, if it can be reached, and say in one sentence what fails.

    Parameters
    ----------
    repo_id : str
        Name of the repository.
    task : str
        What is to be done, for errors.
    advice : str
        What to do without a connection.

    Raises
    ------
    ConnectionError, FileNotFoundError, PermissionError, ValueError
        By what fails.
    """
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
