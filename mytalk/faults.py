"""One of many goes wrong: whose fault an error is, and where its traceback is kept."""

from __future__ import annotations

import errno
import os
import traceback

from mytalk import atomic
from mytalk.command import one_line

ERRORS_FILE = "errors.log"  # in the output folder
# Errors of the machine or of the output, whatever file was being read.
OF_THE_MACHINE = {errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EROFS}


def log_text(folder: str | os.PathLike, name: str, text: str) -> None:
    """Append a traceback to the folder's ERRORS_FILE, under the name of what it is about. Raises OSError."""
    atomic.append(os.path.join(folder, ERRORS_FILE), f"{name}\n{text}\n".encode("utf-8", "backslashreplace"))


def logged(folder: str | os.PathLike, name: str, error: BaseException) -> str:
    """Append an error's traceback to the folder's ERRORS_FILE, under the name of what it is about; the error in a line.

    Raises OSError where it cannot be written.
    """
    log_text(folder, name, "".join(traceback.format_exception(error)))
    return f"{type(error).__name__}: {one_line(error)}"
