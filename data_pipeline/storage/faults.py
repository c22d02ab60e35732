"""What went wrong with storage: what a client's exception means, and texts of it without credentials."""

from __future__ import annotations

import errno
import os
import re

from mytalk.command import UserError

FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)  # not tried again


def no_ranges(where: str) -> UserError:
    """The error for a server that can give no ranges."""
    return UserError(
        f"{without_secrets(where)}: the server serves no byte ranges; use one that does, or copy the shards to a disk"
    )


def meaning(error: BaseException, where: str) -> Exception:
    """What a client's exception means: one of FINAL, UserError, or an OSError, which is worth another try."""
    status, plain, missing = status_of(error), without_secrets(where), isinstance(error, FileNotFoundError)
    if missing and status is None and not isinstance(error.__cause__, (LookupError, type(None))):
        error, missing = error.__cause__, False  # fsspec calls every failed request for facts "not found"
    if isinstance(error, UserError):
        return error
    if status in (404, 410) or (missing and status is None):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), plain)
    if status in (401, 403) or isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), plain)
    return OSError(f"HTTP {status}" if status else cause(error))


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an exception of aiohttp or botocore, if any."""
    while error is not None:
        status = getattr(error, "status", None)
        response = getattr(error, "response", None)
        if status is None and isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def cause(error: BaseException) -> str:
    """An error in one line, without credentials."""
    text = without_secrets(" ".join(str(error).split()))
    return text if type(error) is OSError and text else f"{type(error).__name__}: {text}".rstrip(": ")


def without_secrets(text: str) -> str:
    """A text with URLs, without what may be a credential in them: user, password and query."""
    text = re.sub(r"://[^\s?]*@", "://", text)
    return re.sub(r"(://[^\s?]*)\?\S*", r"\1", text)
