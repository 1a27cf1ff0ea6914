import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
ON_COMMITTED_RESULTS = ["table_1", "table_2", "table_3", "table_4", "table_demo", "ledger", "deviations"]


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


@pytest.mark.parametrize("name", ON_COMMITTED_RESULTS)
def test_it_runs_alone_with_its_defaults_from_any_folder(name, tmp_path):
    notebook = jupytext.read(ROOT / "notebooks" / f"{name}.py")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    jupytext.write(notebook, tmp_path / "in.ipynb")
    command = [
        Path(sys.executable).parent / "papermill",
        "in.ipynb",
        "out.ipynb",
        "-k",
        "python3",
        "--no-progress-bar",
    ]
    environment = os.environ | {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.ipynb", "out.ipynb"]
    outputs = [o for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for o in cell.get("outputs", [])]
    shown = "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert '<table class="results sortable">' in shown and 'class="provenance"' in shown
    assert not re.search(r"\bnan\b", re.sub(r"data:[^\"]*", "", shown), re.IGNORECASE)
