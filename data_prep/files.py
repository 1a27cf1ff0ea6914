"""Writing and checking files: the one atomic writer and the one checksum of the project."""

import errno
import hashlib
import os
import tempfile
from pathlib import Path

from data_prep.errors import DataError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves either all of it or nothing under its name."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)
            file.write(content)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise system_error(error, path, f"to write {len(content)} bytes") from None
        raise


def write_if_changed(path: Path, content: bytes) -> None:
    """Like `write_atomic`, but leaves a file that already holds `content` untouched (its time stamp too)."""
    if not path.exists() or path.read_bytes() != content:
        write_atomic(path, content)


def sha256(path: Path | str) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def system_error(error: OSError, path: Path, expected: str) -> DataError:
    """What the operating system refused, as the one line of a `DataError`."""
    advice = "check path and permissions"
    advice = "free some space and run again: it resumes" if error.errno in FULL else advice
    return DataError(path, expected, error.strerror or str(error), advice)
