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


def logged(folder: str | os.PathLike, name: str, error: BaseException) -> str:
    """Append an error's traceback to the folder's ERRORS_FILE, under the name of what it is about; the error in a line.

    Raises OSError where it cannot be written.
    """
    text = f"{name}\n{''.join(traceback.format_exception(error))}\n"
    atomic.append(os.path.join(folder, ERRORS_FILE), text.encode("utf-8", "backslashreplace"))
    return f"{type(error).__name__}: {one_line(error)}"
