"""Unpacking: what is written, and what is refused."""

import io
import shutil
import stat
import tarfile
import zipfile

import pytest

from data_prep import DataError
from data_prep.__main__ import main
from data_prep.archives import unpack
from data_prep.datasets import DATASETS

FILES = {"a.txt": b"one", "sub/b.txt": b"two"}


def zipped(path, files=FILES, link=None):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return path


def tarred(path, files=FILES, mode="w:gz", kind=tarfile.REGTYPE):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.type = kind
            info.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return path


@pytest.mark.parametrize("make", [zipped, tarred])
def test_files_come_out(tmp_path, make):
    out = unpack(make(tmp_path / "archive"), tmp_path / "out")
    assert {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in out} == FILES
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a.txt",
        "sub",
    ]  # no temporary folder is left


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "sub/../../evil", "sub/../inside", "c:\\evil", "..\\evil"]
)
def test_no_path_outside_the_target(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"good.txt": b"", name: b"x"})
    with pytest.raises(DataError, match="members inside"):
        unpack(archive, tmp_path / "in" / "out")
    assert not list((tmp_path / "in" / "out").iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive", "in"]


def test_no_links(tmp_path):
    archives = [
        zipped(tmp_path / "z", link="innocent"),
        tarred(tmp_path / "s", kind=tarfile.SYMTYPE),
        tarred(tmp_path / "h", kind=tarfile.LNKTYPE),
    ]
    for archive in archives:
        with pytest.raises(DataError, match="found the link"):
            unpack(archive, tmp_path / "out")


def test_a_link_in_the_target_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="behind a link"):
        unpack(zipped(tmp_path / "archive"), tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["sub/b.txt", "sub"])
def test_nothing_is_overwritten(tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(DataError, match="no such file, found one"):
        unpack(zipped(tmp_path / "archive"), tmp_path / "out")
    assert path.read_text() == "mine" and not (tmp_path / "out" / "a.txt").exists()


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_broken_archive_leaves_nothing(tmp_path, make):
    archive = make(tmp_path / "archive", {"a": bytes(range(256)) * 400})
    content = bytearray(archive.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(8)
    archive.write_bytes(content)
    with pytest.raises(DataError, match="a whole archive") as error:
        unpack(archive, tmp_path / "out")
    assert "\n" not in str(error.value) and not list((tmp_path / "out").iterdir())


def test_other_files_are_no_archives(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"<html>sign in</html>")
    with pytest.raises(DataError, match="expected zip, tar or rar"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    with pytest.raises(DataError, match="found no file"):
        unpack(tmp_path / "none.zip", tmp_path / "out")


def test_rar_wants_unrar(tmp_path, monkeypatch):
    (tmp_path / "x.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DataError, match="the program unrar"):
        unpack(tmp_path / "x.rar", tmp_path / "out")


FAKE_UNRAR = """#!/bin/sh
# "lb ARCHIVE" lists names, "x ... ARCHIVE FOLDER/" writes them; the names are in ARCHIVE.names.
if [ "$1" = lb ]; then cat "$2.names"; exit 0; fi
for last; do archive=$target; target=$last; done
while read -r name; do
  mkdir -p "$(dirname "$target$name")"
  echo content > "$target$name"
done < "$archive.names"
"""


@pytest.mark.parametrize(
    ("names", "refused"), [(["S/a.jpg", "S/b.jpg"], None), (["../evil"], "members inside")]
)
def test_rar_members_are_checked_before_extraction(tmp_path, monkeypatch, names, refused):
    archive = tmp_path / "x.rar"
    archive.write_bytes(b"Rar!\x1a\x07\x01\x00")
    (tmp_path / "x.rar.names").write_text("\n".join(names) + "\n")
    program = tmp_path / "unrar"
    program.write_text(FAKE_UNRAR)
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))
    if refused:
        with pytest.raises(DataError, match=refused):
            unpack(archive, tmp_path / "out")
        assert not list((tmp_path / "out").iterdir())
    else:
        assert [p.name for p in unpack(archive, tmp_path / "out")] == ["a.jpg", "b.jpg"]


def test_a_missing_release_is_told_with_its_site_or_its_archive(tmp_path):
    assert "1glNJUGotrbEyk43twwB9556AdngJsynZ" in str(DATASETS["ssdd"].missing(tmp_path))
    zipped(tmp_path / "Official-SSDD-OPEN.zip")
    message = str(DATASETS["ssdd"].missing(tmp_path))
    assert f"python -m data_prep unpack {tmp_path}/Official-SSDD-OPEN.zip {tmp_path}" in message


def test_command_line(tmp_path, capsys):
    assert main(["unpack", str(zipped(tmp_path / "a.zip")), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("2 files in ")
    assert main(["unpack", str(tmp_path / "a.zip"), str(tmp_path / "out")]) == 1


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_member_that_is_the_folder_itself(tmp_path, make):
    with pytest.raises(DataError, match="members inside the archive's folder, found '.'"):
        unpack(make(tmp_path / "archive", {".": b"x"}), tmp_path / "out")


def test_an_encrypted_archive_is_not_fetched_again(tmp_path):
    archive = zipped(tmp_path / "a.zip")
    content = bytearray(archive.read_bytes())
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.find(magic)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(magic, place + 1)
    archive.write_bytes(content)
    with pytest.raises(DataError, match="found .*encrypted, password required.*unpack it by hand"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
