"""The layout: which room may import which, and what a room can do without."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/padim_ace"
MAY_IMPORT = {
    "detect": set(),
    "anomalib": {"detect"},
    "scene": {"detect"},
    "experiment": {"detect", "data_prep"},
    "paper": {"experiment", "detect", "data_prep"},
    "report": {"paper", "experiment", "detect", "data_prep"},
    "data_prep": set(),
    "notebooks": {"report", "paper", "experiment", "detect", "anomalib", "scene", "data_prep"},
}
FOLDERS = {"data_prep": ROOT / "data_prep", "notebooks": ROOT / "notebooks"}
ROOMS = [room for room in MAY_IMPORT if room != "notebooks"]


def modules(room):
    return sorted(FOLDERS.get(room, PACKAGE / room).rglob("*.py"))


def imported(path):
    """Every module that a file names in an import, inside of functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name):
    """The room that a module lies in; None for another package, or the package itself."""
    parts = name.split(".")
    if parts[0] == "data_prep":
        return "data_prep"
    return parts[1] if parts[0] == "padim_ace" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


def test_every_module_is_in_a_room():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py"}
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"} == {
        room for room in MAY_IMPORT if room not in FOLDERS
    }


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in imported(path)
        if room_of(name) not in {None, room, *MAY_IMPORT[room]}
    ]
    assert not wrong


def test_the_detector_needs_only_what_it_says():
    known = {"torch", "timm", "numpy", "scipy", "jaxtyping", "safetensors", "lazy_loader", "padim_ace"}
    names = {name.partition(".")[0] for path in modules("detect") for name in imported(path)}
    assert names - set(sys.stdlib_module_names) <= known


def test_no_module_imports_itself_in_a_circle():
    graph = {}
    for room in ROOMS:
        for path in modules(room):
            base = ROOT / "src" if room != "data_prep" else ROOT
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            graph[name] = set(imported(path))
    done, open_ = set(), []

    def visit(name):
        if name in open_:
            raise AssertionError(" → ".join([*open_[open_.index(name) :], name]))
        if name in done or name not in graph:
            return
        open_.append(name)
        for other in sorted(graph[name]):
            visit(other)
        open_.pop()
        done.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_public_names_are_in_all_and_can_be_had(room):
    name = "data_prep" if room == "data_prep" else f"padim_ace.{room}".rstrip(".")
    package = importlib.import_module(name)
    assert package.__all__ and package.__doc__
    for public in package.__all__:
        assert getattr(package, public) is not None


@pytest.mark.parametrize("path", [p for room in ROOMS for p in modules(room)], ids=lambda p: p.stem)
def test_no_module_is_long_and_no_class_either(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno - node.lineno < 200, node.name


BLOCK = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {names}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
"""


def python(code, without):
    """Run code where some packages are not installed."""
    code = BLOCK.replace("{names}", repr(without)) + code
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_detector_works_without_anomalib():
    code = "from padim_ace.detect import AceModel, Detector, load_backbone\n"
    code += "AceModel(load_backbone('tf_efficientnet_lite0', 'random'), Detector(), features=10)"
    done = python(code, {"anomalib", "lightning"})
    assert not done.returncode, done.stderr


def test_names_and_results_can_be_read_without_torch():
    code = "from padim_ace.detect import BACKBONES, Detector\n"
    code += "from padim_ace.experiment import BASELINES, read_scores\n"
    code += "from padim_ace.paper import DETECTORS, read_published\n"
    code += f"read_scores({str(ROOT / 'results/demo/scores.csv')!r})"
    done = python(code, {"torch"})
    assert not done.returncode, done.stderr
