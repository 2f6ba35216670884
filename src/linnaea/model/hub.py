"""Fetch files from the model hub: the published models, their pinned revisions, and what can go wrong.

The module imports neither torch nor NumPy, since ``linnaea list models`` reads it.
"""

import errno
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit
from urllib.request import getproxies

from linnaea.errors import LinnaeaError
from linnaea.model.folders import CONFIG_FILE, HUB, WEIGHTS_FILE
from linnaea.progress import announce

Kind: TypeAlias = Literal["model", "dataset"]
"""The hub's kinds of repositories."""

SECONDS_TO_ANSWER = 5.0
"""The seconds in which the hub must accept a connection."""
BANK_FOLDER = "embeddings"
"""The folder of a data set's repository that holds the label banks."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published model, the label bank that was made with its weights, and the revisions of both.

    The revisions are commits that public catalogues of these models state. The weights and banks on the hub are
    replaced from time to time while their names stay (pybioclip, pull request 171).
    """

    name: str
    repo: str
    revision: str
    architecture: str
    """open_clip's name of the architecture: what is known about the model without its weights."""
    bank_repo: str
    """The data set whose repository holds the bank."""
    bank_revision: str
    has_first_layout: bool = False
    """The bank was once published as ``txt_emb_species``; all banks are now named after their models."""

    @property
    def source(self) -> str:
        """Return the identifier with its revision, ``hf-hub:ORG/NAME@REVISION``."""
        return f"{HUB}{self.repo}@{self.revision}"

    @property
    def bank_names(self) -> tuple[str, ...]:
        """Return the paths of the bank in its repository without their suffixes, the one to prefer first."""
        names = [f"txt_emb_{self.repo.partition('/')[2]}", *["txt_emb_species"] * self.has_first_layout]
        return tuple(f"{BANK_FOLDER}/{name}" for name in names)


_10M, _200M = "imageomics/TreeOfLife-10M", "imageomics/TreeOfLife-200M"
_10M_REVISION = "4e719078e4cab104a0b631c0fd724ba9ee02411b"
_200M_REVISION = "5f2dc493b3dc0e544438a04038ab15faa646b749"

PUBLISHED = {
    model.name: model
    for model in (
        Published(
            name="bioclip", repo="imageomics/bioclip", revision="ce901ab3c6a913f9e9ef94ce6d27761069f4f01c",
            architecture="ViT-B-16", bank_repo=_10M, bank_revision=_10M_REVISION, has_first_layout=True,
        ),
        Published(
            name="bioclip-2", repo="imageomics/bioclip-2", revision="2957b322090f9cb17ae72c71981c7218a28d81e0",
            architecture="ViT-L-14", bank_repo=_200M, bank_revision=_200M_REVISION, has_first_layout=True,
        ),
        Published(
            name="bioclip-2.5", repo="imageomics/bioclip-2.5-vith14",
            revision="6e3d04e3d6522012c88181085c5ae666e14c45cd",
            architecture="ViT-H-14", bank_repo=_200M, bank_revision=_200M_REVISION,
        ),
        Published(
            name="biocap", repo="imageomics/biocap", revision="4e544d1d08781b6afee77bd7c1a85d04bd567d1b",
            architecture="ViT-B-16", bank_repo=_10M, bank_revision=_10M_REVISION,
        ),
    )
}  # fmt: skip
"""The published models by Linnaea's names."""


def find_published(name: str) -> Published | None:
    """Return the published model of a name: Linnaea's, or ``hf-hub:ORG/NAME`` at any revision."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    repo = name.removeprefix(HUB).partition("@")[0] if name.startswith(HUB) else ""
    return next((model for model in PUBLISHED.values() if model.repo == repo), None)


def parse_hub_name(name: str) -> tuple[str, str]:
    """Return repository and revision of ``hf-hub:ORG/NAME[@REVISION]``; the revision may be empty.

    Raises:
        LinnaeaError: the name has another form.
    """
    repo, _, revision = name.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", repo):
        raise LinnaeaError(f"model {name!r}: a hub model is written hf-hub:ORG/NAME")
    return repo, revision


class NotOnHubError(LinnaeaError):
    """The hub has no such revision or file."""


class NotReachedError(LinnaeaError):
    """The hub cannot be reached, and the file is not in its cache."""


def fetch_file(repo: str, path: str, revision: str = "", *, kind: Kind = "model") -> Path:
    """Return the path of a file of the hub in the hub's cache; it is downloaded if it is not there.

    An interrupted download resumes where it stopped. The name of the snapshot folder is the commit.

    Raises:
        NotOnHubError: the repository has no such revision or file.
        NotReachedError: the hub cannot be reached, and the file is not in the cache.
        LinnaeaError: there is no such repository, or the disk is full.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    pinned = _is_commit(revision) and try_to_load_from_cache(repo, path, revision=revision, repo_type=kind)
    if isinstance(pinned, str):
        return Path(pinned)
    with _explained(repo, path, revision):
        return Path(hf_hub_download(repo, path, revision=revision or None, repo_type=kind,
                                    local_files_only=not _answers()))  # fmt: skip


def _is_commit(revision: str) -> bool:
    return bool(re.fullmatch("[0-9a-f]{40}", revision))


def _answers() -> bool:
    """Tell whether the hub can be reached; its client would try for 25 seconds before it says that it cannot."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True  # the proxy finds the hub
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=SECONDS_TO_ANSWER).close()
    except OSError:
        return False
    return True


def fetch_pinned(repo: str, paths: Sequence[str], revision: str, *, kind: Kind = "model") -> tuple[Path, str, str]:
    """Return the first of ``paths`` that a repository has at its pinned revision: the file, its path and its commit.

    A mirror may lack that commit, and its owner may have removed it from the hub. The newest one is used then, with a
    warning.

    Raises:
        LinnaeaError: none of the files can be had (see :func:`fetch_file`).
    """
    try:
        return _fetch_first(repo, paths, revision, kind)
    except (NotOnHubError, NotReachedError) as error:
        try:
            path, name, commit = _fetch_first(repo, paths, "", kind)
        except (NotOnHubError, NotReachedError) as newest:
            raise (error if isinstance(newest, NotReachedError) else newest) from error
    announce(f"{repo}: the pinned revision {revision[:12]} is not available; using the newest, {commit[:12]}")
    return path, name, commit


def _fetch_first(repo: str, paths: Sequence[str], revision: str, kind: Kind) -> tuple[Path, str, str]:
    *others, last = paths
    for name in others:
        try:
            path = fetch_file(repo, name, revision, kind=kind)
        except (NotOnHubError, NotReachedError):  # offline, only one of the names may be in the cache
            continue
        return path, name, commit_of(path, name)
    path = fetch_file(repo, last, revision, kind=kind)
    return path, last, commit_of(path, last)


def fetch_config(name: str) -> tuple[Path, str, str]:
    """Return the configuration file of ``bioclip`` or ``hf-hub:ORG/NAME[@REVISION]``, its repository and its commit.

    A published model without ``@REVISION`` is of its pinned revision.

    Raises:
        LinnaeaError: the file cannot be had (see :func:`fetch_file`).
    """
    published = None if "@" in name else find_published(name)
    if published is not None:
        config, _, commit = fetch_pinned(published.repo, [CONFIG_FILE], published.revision)
        return config, published.repo, commit
    repo, revision = parse_hub_name(name)
    config = fetch_file(repo, CONFIG_FILE, revision)
    return config, repo, commit_of(config, CONFIG_FILE)


def fetch_weights(repo: str, commit: str) -> Path:
    """Return the file of weights that open_clip prefers among those that a repository has.

    Raises:
        LinnaeaError: there is none, or it cannot be had (see :func:`fetch_file`).
    """
    for path in (WEIGHTS_FILE, "open_clip_pytorch_model.bin"):
        try:
            return fetch_file(repo, path, commit)
        except (NotOnHubError, NotReachedError) as error:
            last = error
    raise last


def commit_of(path: Path, name: str) -> str:
    """Return the commit of a file in the hub's cache; ``name`` is its path in its repository."""
    return path.parents[name.count("/")].name


def push_folder(folder: Path, repo: str, *, kind: Kind = "model") -> str:
    """Upload a folder to a repository of the hub, which is created if it is not there; return its address.

    Files that are there already with the same content are not sent again. The caller must be logged in to the hub.

    Raises:
        LinnaeaError: the name has another form, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi, errors

    check_repo_name(repo)
    if not _answers():
        raise NotReachedError(f"{repo}: the hub cannot be reached; {folder} is complete, push it later")
    api = HfApi()
    try:
        api.create_repo(repo, repo_type=kind, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo, repo_type=kind, commit_message="Upload with Linnaea")
    except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, OSError, ValueError) as error:
        what = " ".join(str(error).split())[:200]
        raise LinnaeaError(f"{repo}: not pushed ({what}); {folder} is complete; log in to the hub and push it again"
                           ) from error  # fmt: skip
    return f"{api.endpoint}/{'datasets/' if kind == 'dataset' else ''}{repo}"


def check_repo_name(repo: str) -> None:
    """Raise LinnaeaError unless a repository is written OWNER/NAME."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise LinnaeaError(f"--push {repo}: a repository of the hub is written OWNER/NAME")


@contextmanager
def _explained(repo: str, path: str, revision: str) -> Iterator[None]:
    """Turn the errors of the hub's client into one line for the user."""
    from huggingface_hub import errors

    of_revision = f" at revision {revision}" if revision else ""
    try:
        yield
    except errors.GatedRepoError as error:
        raise LinnaeaError(f"{repo}: the hub gives it only to people who asked for it; ask on its page, then log in"
                           " to the hub") from error  # fmt: skip
    except errors.RepositoryNotFoundError as error:
        raise LinnaeaError(
            f"{repo}: the hub has no such repository (or it is private: log in to the hub first)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NotOnHubError(f"{repo}: the hub has no revision {revision or 'main'} of it; check the name") from error
    except errors.LocalEntryNotFoundError as error:
        raise NotReachedError(f"{repo}: {path}{of_revision} is not in the hub's cache and cannot be downloaded; go"
                              " online once, or give a folder") from error  # fmt: skip
    except errors.EntryNotFoundError as error:
        raise NotOnHubError(f"{repo}: has no file {path}{of_revision}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise LinnaeaError(f"{repo}: the disk is full; free some space and run the same command again") from error
        what = " ".join(str(error).split())[:200]
        raise LinnaeaError(f"{repo}: {path} cannot be downloaded ({what}); run the same command again") from error
