"""What only reads results needs no torch, and starts in a second."""

import subprocess
import sys
from pathlib import Path

import jupytext
import pages
import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "src/padim_ace/report").glob("[!_]*.py"))


BLOCK = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torch":
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
"""


def run(code):
    """Run code in a process in which torch can't be imported."""
    return subprocess.run([sys.executable, "-c", BLOCK + code], capture_output=True, text=True, cwd=ROOT)


def test_every_module_of_the_room_can_be_imported():
    done = run("".join(f"import padim_ace.report.{module}\n" for module in MODULES))
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("page", pages.LIGHT)
def test_a_page_can_be_made(page):
    cells = jupytext.read(ROOT / "notebooks" / f"{page}.py").cells
    done = run("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    assert not done.returncode, done.stderr
