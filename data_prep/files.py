"""Files that are written whole or not at all, and their checksums."""

import errno
import hashlib
import os
from pathlib import Path

from data_prep.errors import DataError


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves either all of it or nothing under its name.

    Raises:
        DataError: where the disk is full or the folder can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "free some space and run again: it resumes" if full else "check the folder's permissions"
        raise DataError(path, f"to write {len(content)} bytes", str(error.strerror), f"{advice}") from None


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
