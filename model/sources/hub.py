"""The Hugging Face hub, through its own client: HF_HOME, HF_ENDPOINT, HF_TOKEN and so on work."""

from __future__ import annotations

import sys
from pathlib import Path

from model.errors import InvalidCheckpointError, ModelError

_FILES = [
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "quantization.safetensors",
]
_UNAUTHORIZED = 401


def download_snapshot(repo_id: str, revision: str | None = None) -> Path:
    """The directory, in the client's cache, with those files of a repository that we read.

    What is in the cache already is not downloaded again; without a network, or with
    HF_HUB_OFFLINE=1, the cache alone must do.

    Args:
        repo_id: `owner/name`.
        revision: a branch, a tag or a commit; None means the main branch.

    Raises:
        InvalidCheckpointError: there is no such repository or revision for this user, or it could
            not be downloaded whole.
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
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=_FILES))
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


def list_files(repo_id: str, revision: str | None = None) -> list[str]:
    """The names of all files of a repository; none if the hub cannot be asked."""
    from huggingface_hub import HfApi

    try:
        return HfApi().list_repo_files(repo_id, revision=revision)
    except Exception:  # noqa: BLE001  # it only makes a refusal clearer
        return []
