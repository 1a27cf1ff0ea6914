"""The page on extending the project, applied block by block to a copy of it, which is then run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pandas as pd
import pytest
import timm
import yaml
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?P<verb>[Aa]\s+new\s+file|[Ii]n)\s+`(?P<path>[^`]+)`(?:,\s+(?P<where>[^:`]*(?:`.+?`[^:`]*)*))?:\n\n"
    r"```\w+\n(?P<code>.*?)```",
    re.DOTALL,
)


def blocks():
    text = (ROOT / "book/extend.md").read_text()
    found = [match.groupdict() for match in BLOCK.finditer(text)]
    assert len(found) == len(re.findall(r"^```\w", text, re.MULTILINE)), "a block that names no file"
    return found


def apply(block, root):
    """Put a block where the page says."""
    path, where, code = root / block["path"], block["where"] or "", block["code"]
    if "new file" in " ".join(block["verb"].split()):
        assert not path.exists()
        path.write_text(code)
        return
    lines = path.read_text().splitlines(keepends=True)
    marks = re.findall(r"`([^`]+)`", where)
    if where.startswith("after"):
        place = next(i for i, line in enumerate(lines) if line.strip().startswith(marks[0])) + 1
        lines.insert(place, code)
    elif where.startswith("in place of"):
        lines = [line for line in lines if not line.startswith(tuple(marks))] + [code]
    else:
        assert where == "at the end", where
        lines.append(f"\n\n{code}")
    path.write_text("".join(lines))


def moon(folder):
    """Noise, and noise with bright squares, in the layout of the page's example."""
    generator = np.random.default_rng(0)
    for name in ("plain", "craters", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(24):
        plain, other = generator.integers(20, 90, (2, 64, 64)).astype(np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        r, c = generator.integers(4, 44, 2)
        mask[r : r + 14, c : c + 12] = 255
        cv2.imwrite(str(folder / f"plain/p{i:02d}.png"), plain)
        cv2.imwrite(str(folder / f"craters/c{i:02d}.png"), np.maximum(other, mask))
        cv2.imwrite(str(folder / f"masks/c{i:02d}.png"), mask)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy with everything of the page, run on a few images with one seed."""
    root = tmp_path_factory.mktemp("extended")
    ignored = shutil.ignore_patterns("_build", "*.ipynb", "__pycache__")
    for name in ("src", "data_prep", "notebooks", "scripts", "config", "book", "results"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("Snakefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    for block in blocks():
        apply(block, root)
    settings = yaml.safe_load((root / "config/demo.yaml").read_text())
    assert "moon" in settings["datasets"] and len(settings["backbones"]) == 2
    settings |= {"datasets": {"moon": {}, "demo_sea": {"scenes": 24}}, "erased": ["demo_sea"]}
    settings |= {"seeds": [0], "image_size": 128}
    (root / "config/demo.yaml").write_text(yaml.safe_dump(settings))
    moon(root / "data/Moon")
    (root / "weights").mkdir()
    state = timm.create_model("regnety_004.pycls_in1k").state_dict()
    save_file(state, root / "weights/regnety_004.pycls_in1k.safetensors")
    pages = [
        "prepare_moon",
        "score_moon-tf_efficientnet_lite0",
        "score_moon-regnety_004",
        "best",
        "table_demo",
    ]
    pages += ["localisation_moon"]
    environment = os.environ | {
        "PADIM_ACE_DATA": str(root / "data"),
        "PADIM_ACE_WEIGHTS": str(root / "weights"),
        "PYTHONPATH": f"{root / 'src'}:{root}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "MPLBACKEND": "agg",
    }
    command = ["snakemake", "--configfile", "config/demo.yaml", "--cores", "2"]
    command += ["results/demo/scores.csv", *(f"build/demo/notebooks/{page}.ipynb" for page in pages)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stdout[-3000:] + done.stderr[-3000:]
    return root


def shown(project, page):
    """All that the cells of a page put out, as text."""
    cells = nbformat.read(project / f"build/demo/notebooks/{page}.ipynb", 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return " ".join(str(value) for output in outputs for value in output.get("data", {}).values())


def test_what_was_added_is_scored(project):
    scores = pd.read_csv(project / "results/demo/scores.csv", keep_default_na=False)
    of_moon = scores[scores["dataset"] == "moon"]
    assert {"tf_efficientnet_lite0", "regnety_004", ""} == set(of_moon["backbone"])
    assert set(scores[scores["backbone"] == "regnety_004"]["dataset"]) == {"moon"}
    added = of_moon.set_index(["detector", "background", "signature"]).sort_index()
    for key in (("squared", "patch", "mined"), ("glrt", "shared", "lace")):
        assert (
            set(added.loc[key, "level"]) == {"image", "pixel"} and added.loc[key, "value"].between(0, 1).all()
        )
    best = of_moon.query("detector == 'squared' and metric == 'auroc' and level == 'image'")
    assert (best["value"] > 0.9).all()  # bright squares on noise


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("prepare_moon", ["Craters of the Moon", "crater"]),
        ("score_moon-tf_efficientnet_lite0", ["squared", "mined", "lace"]),
        ("score_moon-regnety_004", ["regnety_004", "squared"]),
        ("table_demo", ["Craters of the Moon"]),
        ("best", ["moon", "demo_sea"]),
        ("localisation_moon", ["Craters of the Moon"]),
    ],
)
def test_what_was_added_stands_on_the_pages(project, page, words):
    text = shown(project, page)
    assert not [word for word in words if word not in text]
