"""Downloads from the Hugging Face hub with its own client, which reads HF_HOME, HF_TOKEN, ..."""

from __future__ import annotations

import sys
from pathlib import Path

from model.checkpoints.checkpoint import FILES
from model.errors import InvalidCheckpointError, ModelError

_UNAUTHORIZED = 401


def download_snapshot(repo_id: str, revision: str | None = None) -> Path:
    """Download a checkpoint's files, and return their directory in the client's cache.

    Files in the cache are not downloaded again; without a network, or with HF_HUB_OFFLINE=1, only
    the cache is used. A revision is a branch, a tag or a commit; None means the main branch.

    Raises:
        InvalidCheckpointError: this user sees no such repository or revision, or the download is
            incomplete.
        ModelError: the `hub` extra is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise ModelError(
            f"{repo_id}: the Hugging Face hub needs the `hub` extra: pip install -e '.[hub]'"
        ) from error
    if not sys.stderr.isatty():  # a log is not for bars
        disable_progress_bars()
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=[*FILES]))
    except Exception as error:  # the client lets errors of its HTTP library through
        raise InvalidCheckpointError(f"{repo_id}: {_explain(error, revision)}") from error


def _explain(error: Exception, revision: str | None) -> str:
    from huggingface_hub import errors

    unknown = "is neither here nor on the hub, or is private: check the name, or set HF_TOKEN"
    reasons: list[tuple[type[Exception], str]] = [  # a subclass goes before its base
        (errors.RevisionNotFoundError, f"has no revision {revision!r}"),
        (errors.GatedRepoError, "is gated: accept its terms, and set HF_TOKEN"),
        (errors.RepositoryNotFoundError, unknown),
        (errors.LocalEntryNotFoundError, "is not in the cache, and the hub cannot be reached"),
    ]
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code == _UNAUTHORIZED:
        return unknown
    return f"could not be downloaded whole ({type(error).__name__})"
