"""Safe unpacking of what the sites of the releases hand out."""

import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from data_prep.errors import DataError
from data_prep.files import FULL, system_error


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
            _extract(archive, stage)
            names = sorted(p.relative_to(stage) for p in stage.rglob("*") if not p.is_dir())
            for path in (target / name for name in names):
                if path.is_file() or any(parent.is_file() for parent in path.parents):
                    raise DataError(path, "no such file", "one", "unpack into an empty folder")
                if not path.resolve().is_relative_to(target.resolve()):
                    raise DataError(path, f"a place inside {target}", "one behind a link", "remove the link")
            for name in names:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                os.rename(stage / name, target / name)
    except DataError:
        raise
    except Exception as error:  # zipfile and tarfile raise whatever a damaged file makes them stumble over
        if isinstance(error, OSError) and (error.errno in FULL or error.filename):
            raise system_error(error, target, "to unpack into it") from None
        advice = "fetch it again or unpack it by hand"
        raise DataError(archive, "a whole archive without a password", str(error), advice) from None
    return [target / name for name in names]


def _extract(archive: Path, stage: Path) -> None:
    """Extract the members of `archive` into the empty folder `stage`; their names are checked first."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            for member in members:
                member.filename = member.filename.replace("\\", "/")
                _check(archive, member.filename, stat.S_ISLNK(member.external_attr >> 16))
            opened.extractall(stage, members)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            files = [member for member in tar if not member.isdir()]
            for file in files:
                _check(archive, file.name, not file.isreg())
            tar.extractall(stage, files, filter="data")
            while tar.fileobj.read(1 << 20):  # type: ignore[union-attr]  # a checksum is at the very end
                pass
    else:
        with archive.open("rb") as unknown:
            if unknown.read(4) != b"Rar!":
                raise DataError(archive, "zip, tar or rar", "another kind of file", "fetch it again")
        program = shutil.which("unrar")
        if program is None:
            advice = "install it or unpack by hand"
            raise DataError(archive, "the program unrar for a rar archive", "none", advice)
        for name in filter(None, _run(program, "lb", archive).splitlines()):
            _check(archive, name, False)
        _run(program, "x", "-o-", "-y", "-p-", "-inul", archive, f"{stage}{os.sep}")
        for link in filter(Path.is_symlink, stage.rglob("*")):
            _check(archive, link.name, True)


def _check(archive: Path, name: str, is_link: bool) -> None:
    """Refuse a member that would leave the folder, or is a link."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        raise DataError(archive, "members inside the archive's folder", f"{name!r}", "don't trust it")
    if is_link:
        raise DataError(archive, "plain files", f"the link {name!r}", "don't trust it")


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"one that {Path(command[0]).name} can't read")
    return done.stdout
