"""fsspec's file systems: made with time limits, without tries of their own, and so that a fork leaves them alone."""

from __future__ import annotations

import os
import weakref
from typing import Any

from data_pipeline.storage.faults import no_ranges
from mytalk.command import UserError

CONNECTIONS = 64

# A forked child keeps its parent's clients alive: closing them would disturb the parent's sockets.
_clients: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()  # by id, as equal clients are two
_inherited: list[Any] = []
os.register_at_fork(after_in_child=lambda: _inherited.extend(_clients.values()))


def file_system(protocol: str, timeout_s: float, options: dict[str, Any]) -> Any:
    """A new file system of a protocol; silence of `timeout_s` seconds is a failure, `options` are its own.

    Raises UserError for a protocol that fsspec does not know, ImportError where its package is not installed.
    """
    import fsspec  # not needed to read from a disk

    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise (error.__cause__ or error) from None  # it names the package
    except ValueError:
        raise UserError(f"fsspec does not know the protocol '{protocol}://'; use http, https or s3") from None
    system = kind(skip_instance_cache=True, **{**_options(protocol, timeout_s), **options})
    system.retries = 1  # s3fs itself would try again
    _clients[id(system)] = system
    return system


def _options(protocol: str, timeout_s: float) -> dict[str, Any]:
    """Time limits for fsspec's clients, without tries of their own, which would multiply with ours."""
    if protocol in ("http", "https"):
        import aiohttp

        limit = aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s)
        headers = {"Accept-Encoding": "identity"}  # a range of the file, not of its compressed form
        return {"client_kwargs": {"timeout": limit, "headers": headers, "raise_for_status": _refuse_other_bytes}}
    if protocol in ("s3", "s3a"):
        retries = {"total_max_attempts": 1}
        times = {"connect_timeout": timeout_s, "read_timeout": timeout_s}
        return {"config_kwargs": {**times, "retries": retries, "max_pool_connections": CONNECTIONS}}
    return {}


async def _refuse_other_bytes(response: Any) -> None:
    """Called by aiohttp with each answer. Raises where it holds other bytes than the requested range."""
    requested = response.request_info.headers.get("Range")
    if requested and response.status == 200:
        raise no_ranges(str(response.url))
    sent = response.headers.get("Content-Range", "")
    if (
        requested
        and response.status == 206
        and not sent.startswith(requested.partition("-")[0].replace("=", " ") + "-")
    ):
        raise OSError(f"requested {requested}, got '{sent}'")
