"""Where numbers came from: code, inputs, parameters, versions and machine."""

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from data_prep.errors import DataError
from data_prep.files import sha256

PACKAGES = ("padim-ace", "torch", "torchvision", "timm", "anomalib", "numpy", "pandas")


def provenance(
    *, parameters: Mapping[str, Any], inputs: Mapping[str, Path | str], device: str, seconds: float
) -> dict[str, Any]:
    """Say where numbers came from, in words that mean the same on another machine.

    Args:
        parameters: what the run was asked for (seeds, image size, …); paths become their last part.
        inputs: files read, by role (``{"manifest": …, "weights": …}``); recorded by name, size and SHA-256.
        device: the torch device the numbers were computed on (``"cpu"``, ``"cuda"``).
        seconds: wall time of the run, in seconds.
    """
    files = {}
    for role, path in sorted((role, Path(path)) for role, path in inputs.items()):
        if not path.is_file():
            raise DataError(path, f"the {role} file", "none", "check the path")
        files[role] = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "parameters": {name: _portable(value) for name, value in sorted(parameters.items())},
        "inputs": files,
        "sources": sources(),
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "device_name": _device_name(device),
        "seconds": round(float(seconds), 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


@cache
def sources() -> dict[str, Any]:
    """The code that decides numbers: a checksum, the commit, and whether the working tree was as committed.

    The checksum is over the rooms detect, experiment and paper; ``commit`` is None outside of a repository.
    """
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for room in ("detect", "experiment", "paper"):
        for path in sorted((package / room).glob("*.py")):
            digest.update(f"{room}/{path.name} {sha256(path)}\n".encode())
    commit = _git(package, "rev-parse", "HEAD")
    clean = None if commit is None else not _git(package, "status", "--porcelain", "--", str(package))
    return {"sha256": digest.hexdigest(), "commit": commit, "clean": clean}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _portable(value: Any) -> Any:
    """A parameter without the machine it ran on: a path is only its last part."""
    if isinstance(value, Path) or (isinstance(value, str) and os.sep in value):
        return Path(value).name
    if isinstance(value, Mapping):
        return {str(name): _portable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(part) for part in value]
    return value


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    models = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return models[0] if models else platform.processor() or platform.machine()
