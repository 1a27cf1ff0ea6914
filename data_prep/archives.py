"""Where a user gets each release, and safe unpacking of what the sites hand out."""

import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".rar")


@dataclass(frozen=True)
class Release:
    """A public data release: where to get it and what it looks like when unpacked."""

    title: str
    site: str
    files: str
    layout: str


RELEASES = {
    "mstar": Release(
        "MSTAR public targets",
        "AFRL's Sensor Data Management System, https://www.sdms.afrl.af.mil (free registration)",
        "MSTAR Public Mixed Targets CD 1 and 2 and MSTAR Public T-72, BMP-2, BTR-70",
        "Phoenix chips in any folders, or image chips in {train,test}/<CLASS>/",
    ),
    "ssdd": Release(
        "SSDD, official release of 2021",
        "Google Drive, file id 1glNJUGotrbEyk43twwB9556AdngJsynZ",
        "Official-SSDD-OPEN.rar",
        "Official-SSDD-OPEN/PSeg_SSDD/voc_style/JPEGImages_{train,test}/",
    ),
    "hrsid": Release(
        "HRSID",
        "Google Drive, file ids 1BZTU8Gyg20wqHXtBPFzRazn_lEdvhsbE (JPG) and"
        " 1U0Sj1SHoq-2VjXXUKwpXae6rBI3YjyDP (400 pure-background images)",
        "HRSID_JPG.zip and the pure-background archive",
        "HRSID_JPG/{JPEGImages,annotations,pure_background}/",
    ),
}


def missing(dataset: str, raw: Path) -> DataError:
    """The error of a release that is not where it should be: what to fetch, from where, to where."""
    release = RELEASES[dataset]
    archives = [p for p in sorted(raw.iterdir()) if p.name.lower().endswith(SUFFIXES)] if raw.is_dir() else []
    if archives:
        return DataError(
            raw,
            release.layout,
            f"the archive {archives[0].name}",
            f"unpack it: python -m data_prep unpack {archives[0]} {raw}",
        )
    return DataError(
        raw,
        f"{release.title} as {release.layout}",
        "none",
        f"get {release.files} from {release.site} and unpack into {raw}",
    )


def unpack(archive: Path, target: Path) -> list[Path]:
    """Unpack a zip, tar or (with `unrar` installed) rar archive into `target`; the files written.

    Nothing is written outside `target`, no file is overwritten, links are refused, and a broken archive
    leaves nothing behind: members go to a temporary folder first, and are moved when all are whole.

    Raises:
        DataError: where the archive is missing, broken, of another kind, or holds a forbidden member.
    """
    archive, target = Path(archive), Path(target)
    if not archive.is_file():
        raise DataError(archive, "an archive", "no file", "check the path")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target) as temporary:
        stage = Path(temporary)
        try:
            _extract(archive, stage, target)
        except (
            zipfile.BadZipFile,
            tarfile.TarError,
            EOFError,
            OSError,
            RuntimeError,
            NotImplementedError,  # what zipfile raises for a compression that it does not know
        ) as error:
            raise DataError(archive, "a whole archive", str(error), "fetch it again") from None
        staged = sorted(p for p in stage.rglob("*") if not p.is_dir())
        relative = [p.relative_to(stage) for p in staged]
        for path, name in zip(staged, relative, strict=True):
            _check(archive, str(name), path.is_symlink(), target)
        for path, name in zip(staged, relative, strict=True):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, target / name)
    return [target / name for name in relative]


def _check(archive: Path, name: str, is_link: bool, target: Path) -> None:
    """Refuse a member that would leave the target, is a link, or is there already."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
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
            members = [m for m in opened.infolist() if not m.is_dir()]
            for member in members:
                _check(archive, member.filename, stat.S_ISLNK(member.external_attr >> 16), target)
            for member in members:
                path = stage / member.filename.replace("\\", "/")
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, path.open("xb") as file:
                    shutil.copyfileobj(source, file)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened_tar:
            tar_members = [m for m in opened_tar if not m.isdir()]
            for tar_member in tar_members:
                _check(archive, tar_member.name, not tar_member.isreg(), target)
            for tar_member in tar_members:
                path = stage / tar_member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened_tar.extractfile(tar_member) as source, path.open("xb") as file:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, file)
            while opened_tar.fileobj.read(1 << 20):  # type: ignore[union-attr]  # a checksum is at the very end
                pass
    elif archive.read_bytes()[:4] == b"Rar!":
        _unrar(archive, stage, target)
    else:
        raise DataError(archive, "zip, tar or rar", "another kind of file", "fetch it again")


def _unrar(archive: Path, stage: Path, target: Path) -> None:
    """Rar by the `unrar` program: names are listed and checked before anything is extracted."""
    program = shutil.which("unrar")
    if program is None:
        raise DataError(
            archive, "the program unrar for a rar archive", "none", "install it or unpack by hand"
        )
    listed = subprocess.run([program, "lb", str(archive)], capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        for name in filter(None, listed.stdout.splitlines()):
            _check(archive, name, False, target)
        result = subprocess.run(
            [program, "x", "-o-", "-y", "-p-", "-inul", str(archive), f"{stage}{os.sep}"],
            capture_output=True,
            check=False,
        )
    if listed.returncode != 0 or result.returncode != 0:
        raise DataError(archive, "a whole rar archive", "one that unrar can't read", "fetch it again")
