"""Safe unpacking of what the sites of the releases hand out."""

import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from data_prep.errors import DataError
from data_prep.files import FULL, system_error

BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    ValueError,
    NotImplementedError,  # what zipfile raises for a compression that it does not know
    OSError,
)


def unpack(archive: Path, target: Path) -> list[Path]:
    """Unpack a zip, tar or (with `unrar` installed) rar archive into `target`; the files written.

    Nothing is written outside `target`, no file is overwritten, links are refused, and a broken archive
    leaves nothing behind: members go to a temporary folder first, and are moved when all are whole.

    Raises:
        DataError: If the archive is missing, broken, encrypted, of another kind, or holds a forbidden member.
    """
    archive, target = Path(archive), Path(target)
    if not archive.is_file():
        raise DataError(archive, "an archive", "no file", "check the path")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target) as temporary:
            stage = Path(temporary)
            _extract(archive, stage, target)
            staged = sorted(p for p in stage.rglob("*") if not p.is_dir())
            relative = [p.relative_to(stage) for p in staged]
            for path, name in zip(staged, relative, strict=True):
                _check(archive, str(name), path.is_symlink(), target)
            for path, name in zip(staged, relative, strict=True):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, target / name)
    except BROKEN as error:
        if isinstance(error, DataError):
            raise
        if isinstance(error, OSError) and (error.errno in FULL or error.filename):
            raise system_error(error, target, "to unpack into it") from None
        raise DataError(archive, "a whole archive", str(error), "fetch it again") from None
    return [target / name for name in relative]


def _check(archive: Path, name: str, is_link: bool, target: Path) -> None:
    """Refuse a member that would leave the target, is a link, or is there already."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise DataError(archive, "members inside the archive's folder", f"{name!r}", "don't trust it")
    if is_link:
        raise DataError(archive, "plain files", f"the link {name!r}", "don't trust it")
    if (target / path).is_file() or any((target / p).is_file() for p in path.parents):
        raise DataError(target / path, "no such file", "one", "unpack into an empty folder")
    if not (target / path).resolve().is_relative_to(target.resolve()):
        raise DataError(archive, f"members inside {target}", f"{name!r} behind a link", "remove the link")


def _extract(archive: Path, stage: Path, target: Path) -> None:
    """Extract the members of `archive` into the empty folder `stage`, each checked by `_check` first."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if not m.filename.endswith("/")]
            for member in members:
                member.filename = member.filename.replace("\\", "/")
                _check(archive, member.filename, stat.S_ISLNK(member.external_attr >> 16), target)
                if member.flag_bits & 1:
                    advice = "unpack it by hand, with its password"
                    raise DataError(archive, "an archive without a password", "an encrypted one", advice)
            opened.extractall(stage, members)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            files = [m for m in tar if not m.isdir()]
            for file in files:
                _check(archive, file.name, not file.isreg(), target)
            tar.extractall(stage, files, filter="data")
            while tar.fileobj.read(1 << 20):  # type: ignore[union-attr]  # a checksum is at the very end
                pass
    else:
        with archive.open("rb") as unknown:
            if unknown.read(4) != b"Rar!":
                raise DataError(archive, "zip, tar or rar", "another kind of file", "fetch it again")
        _unrar(archive, stage, target)


def _unrar(archive: Path, stage: Path, target: Path) -> None:
    """Rar by the `unrar` program: names are listed and checked before anything is extracted."""
    program = shutil.which("unrar")
    if program is None:
        advice = "install it or unpack by hand"
        raise DataError(archive, "the program unrar for a rar archive", "none", advice)
    listed = subprocess.run([program, "lb", str(archive)], capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        for name in filter(None, listed.stdout.splitlines()):
            _check(archive, name, False, target)
        options = ["x", "-o-", "-y", "-p-", "-inul"]
        result = subprocess.run(
            [program, *options, str(archive), f"{stage}{os.sep}"], capture_output=True, check=False
        )
    if listed.returncode != 0 or result.returncode != 0:
        raise DataError(archive, "a whole rar archive", "one that unrar can't read", "fetch it again")
