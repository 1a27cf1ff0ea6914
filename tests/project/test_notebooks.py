import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pages
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
ON_COMMITTED_RESULTS = [*pages.LIGHT, "deviations"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_says_what_it_reads_writes_needs_and_takes(path):
    cells = jupytext.read(path).cells
    assert cells[0].cell_type == "markdown"
    assert len(re.findall(r"^# ", cells[0].source, re.MULTILINE)) == 1
    note = cells[0].source.partition(":::{admonition} This notebook")[2].partition("\n:::")[0]
    assert "Reads" in note and "writes" in note and re.search(r"[Nn]eeds", note), note
    assert re.search(r"takes|seconds|minute", note), note


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_has_one_cell_of_parameters_and_reads_no_configuration(path):
    cells = jupytext.read(path).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert cells.index(tagged[0]) == min(i for i, cell in enumerate(cells) if cell.cell_type == "code")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert "config/" not in code and "os.environ" not in code
    assert not re.search(r"[\"']/(?!/)\w", tagged[0].source)  # no path of one machine


def run(name, root, folder, *parameters):
    """What a notebook puts out when papermill runs it in another folder, the checkout as its ``--cwd``."""
    notebook = jupytext.read(root / "notebooks" / f"{name}.py")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    jupytext.write(notebook, folder / "in.ipynb")
    command = [Path(sys.executable).parent / "papermill", "in.ipynb", "out.ipynb"]
    command += ["-k", "python3", "--cwd", root, "--no-progress-bar", *parameters]
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{root / 'src'}:{root}",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in folder.iterdir()) == ["in.ipynb", "out.ipynb"]
    return [o for cell in nbformat.read(folder / "out.ipynb", 4).cells for o in cell.get("outputs", [])]


@pytest.mark.parametrize("name", ON_COMMITTED_RESULTS)
def test_it_runs_alone_with_its_defaults_from_any_folder(name, tmp_path):
    outputs = run(name, ROOT, tmp_path)
    shown = "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert 'class="results"' in shown and 'class="provenance"' in shown
    assert not re.search(r"\bnan\b", re.sub(r"data:[^\"]*", "", shown), re.IGNORECASE)


@pytest.mark.skipif(not os.environ.get("PADIM_ACE_SLOW"), reason="slow: set PADIM_ACE_SLOW=1")
def test_binders_environment_is_light_and_runs_all_notebooks_that_only_read_results(tmp_path):
    python, binder = tmp_path / "light/bin/python", ROOT / "binder"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "light"], check=True)
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    done = subprocess.run([*install, "-r", binder / "requirements.txt"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a package index: expected one, found {done.stderr.strip().splitlines()[-1]}")
    size = sum(path.stat().st_size for path in (tmp_path / "light").rglob("*") if path.is_file())
    assert size < 1e9 and not list((tmp_path / "light").rglob("torch"))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "MPLBACKEND": "agg"}
    for name in pages.LIGHT:
        cells = jupytext.read(ROOT / f"notebooks/{name}.py").cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        done = subprocess.run([python, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert not done.returncode, done.stderr[-2000:]


MADE = {
    "prepare": ["build/demo/prepared/demo_sea/manifest.csv"],
    "score": [
        f"build/demo/score/demo_sea-tf_efficientnet_lite0/{name}"
        for name in ("scores.csv", "clamp.csv", "provenance.json", "seeds.json", "maps.npz")
    ],
    "baselines": [
        f"build/demo/score/demo_sea-baselines/{name}" for name in ("scores.csv", "not_run.csv", "fill.csv")
    ],
    "figure_localisation": [],
    "try_it": ["build/demo/try_it/weights/onnx/model.onnx", "build/demo/try_it/try_it.json"],
    "front": [],
    "use_your_own": ["build/demo/use_your_own"],
    "whole_scene": ["build/demo/whole_scene"],
}
"""The other notebooks, in the order in which each finds what it reads, and what each writes."""


def test_the_notebooks_that_make_the_results_run_with_their_defaults_from_any_folder(tmp_path):
    assert {path.stem for path in NOTEBOOKS} == {*MADE, *ON_COMMITTED_RESULTS}
    root = tmp_path / "checkout"
    for name in ("src", "data_prep", "notebooks", "book", "results"):
        ignored = shutil.ignore_patterns("_build", "*.ipynb", "__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    for name, files in MADE.items():
        folder = tmp_path / name
        folder.mkdir()
        fewer = {
            "prepare": ["-y", "settings: {scenes: 20}"],
            "try_it": ["-p", "scenes", "4"],
            "whole_scene": ["-y", "size: 768"],
        }
        outputs = run(name, root, folder, *fewer.get(name, []))
        assert any("image/svg+xml" in o.get("data", {}) or "text/html" in o.get("data", {}) for o in outputs)
        for file in files:
            assert (root / file).exists(), f"{name}: {file}"
