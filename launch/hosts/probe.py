"""What a host is, as JSON on one line: `python -m launch.hosts.probe [FOLDER]`. Every host of a job answers it first.

Two hosts are alike where `code`, `python` and `packages` are equal.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from mytalk.machine import cores, free_port

CHECKOUT = Path(__file__).parent.parent.parent
CODE = ("mytalk", "data_pipeline", "train", "eval", "launch")
PACKAGES = ("torch", "deepspeed", "numpy", "safetensors", "omegaconf", "webdataset", "accelerate")
ALIKE = ("code", "python", "packages")
DIGEST_CHARACTERS = 12


def facts(folder: Path) -> dict[str, Any]:
    """What this host is; disk figures are of `folder`, or of its nearest parent that exists."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return {
        "host": socket.gethostname(),
        "code": code_digest(CHECKOUT),
        "commit": commit(CHECKOUT),
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "time": time.time(),
        "port": free_port(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "shm_bytes": shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else None,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "disk_bytes": shutil.disk_usage(folder).free,
        "gpus": gpus(),
    }


def code_digest(checkout: Path) -> str:
    """Changes with any line of our code, committed or not."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in (checkout / folder).rglob("*.py")):
        digest.update(str(path.relative_to(checkout)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:DIGEST_CHARACTERS]


def commit(checkout: Path) -> str:
    """The commit that is checked out; empty without git."""
    if (git := shutil.which("git")) is None:
        return ""
    asked = [git, "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def version(name: str) -> str:
    """The installed version of a package, or `absent`."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def memory_bytes() -> int:
    """Memory that can be had: what is free, and what the system would give up (its cache of files)."""
    for line in Path("/proc/meminfo").read_text().splitlines() if os.path.exists("/proc/meminfo") else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def gpus() -> list[str]:
    """The GPUs as the driver names them; none without a driver."""
    if (query := shutil.which("nvidia-smi")) is None:
        return []
    asked = [query, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """In words, in what two hosts are not alike; empty where they are."""
    differences = []
    for key in ALIKE:
        if ours[key] != theirs[key] and key == "packages":
            pairs = {name: (ours[key].get(name), theirs[key].get(name)) for name in {**ours[key], **theirs[key]}}
            differences += [f"{name} {here} and {there}" for name, (here, there) in pairs.items() if here != there]
        elif ours[key] != theirs[key]:
            differences.append(f"{key} {ours[key]} and {theirs[key]}")
    if differences and ours["commit"] != theirs["commit"]:
        differences.append(f"commits {ours['commit'] or 'unknown'} and {theirs['commit'] or 'unknown'}")
    return ", ".join(differences)


if __name__ == "__main__":
    print(json.dumps(facts(Path(sys.argv[1] if len(sys.argv) > 1 else "."))))
