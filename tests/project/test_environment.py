import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {name: texts for name, texts in PROJECT["optional-dependencies"].items() if name != "all"}
DIRECT = [Requirement(text) for texts in (PROJECT["dependencies"], *EXTRAS.values()) for text in texts]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
LOCK = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES}


def test_the_lock_pins_each_package_once_and_exactly():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in LINES)
    assert len(LOCK) == len(LINES)


@pytest.mark.parametrize("wanted", DIRECT, ids=str)
def test_every_direct_dependency_is_locked_to_a_version_that_it_allows(wanted):
    assert Version(LOCK[canonicalize_name(wanted.name)]) in wanted.specifier


def test_the_lock_holds_every_package_that_the_direct_ones_bring():
    missing, todo, seen = set(), list(DIRECT), set()
    while todo:
        wanted = todo.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        if key[0] not in LOCK:
            missing.add(key[0])
        try:
            requires = distribution(wanted.name).requires or []
        except PackageNotFoundError:
            continue
        for needed in map(Requirement, requires):
            extras = [{"extra": extra} for extra in ("", *wanted.extras)]
            if needed.marker is None or any(needed.marker.evaluate(extra) for extra in extras):
                todo.append(needed)
    assert not missing


def test_this_environment_is_the_locked_one():
    wrong = {}
    for name, version in LOCK.items():
        try:
            found = distribution(name).version
        except PackageNotFoundError:
            continue  # of another platform, or an extra that is not installed
        if found != version:
            wrong[name] = (found, version)
    assert not wrong


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("environment.yml", ["-c constraints.txt", "-e .[all]"]),
        ("binder/environment.yml", ["-c ../constraints.txt", "-r requirements.txt"]),
    ],
)
def test_conda_users_get_the_same_pins(path, wanted):
    found = yaml.safe_load((ROOT / path).read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in found if isinstance(entry, dict)]
    assert pip == wanted
    others = {entry for entry in found if isinstance(entry, str)}
    (python,) = [entry for entry in others if entry.startswith("python=")]
    assert others <= {python, "pip", "make"}  # nothing that could differ from the lock
    assert Version(python.removeprefix("python=")) in Requirement(f"x{PROJECT['requires-python']}").specifier


def test_what_results_are_read_with_is_locked_and_has_no_torch():
    names = {
        canonicalize_name(Requirement(line).name)
        for line in (ROOT / "binder/requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    assert names <= set(LOCK) and not names & {"torch", "timm", "anomalib"}


def test_the_extra_all_is_all_the_others():
    (text,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(text).extras == set(EXTRAS)


def test_what_the_project_rests_on_has_its_bounds():
    bounds = {requirement.name: str(requirement.specifier) for requirement in DIRECT}
    assert bounds["jupyter-book"] == "<2,>=1.0.4"
    assert (LOCK["torch"], LOCK["torchvision"], LOCK["anomalib"]) == ("2.14.1", "0.29.1", "2.7.0")


SOURCES = sorted(
    path
    for folder in ("src", "data_prep", "notebooks", "scripts", "bench", "tests")
    for path in (ROOT / folder).rglob("*.py")
)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_every_package_that_is_imported_is_a_direct_dependency():
    own = {path.stem for path in SOURCES} | {"padim_ace", "data_prep", "fakes", "tests"}
    packages = packages_distributions()
    direct = {canonicalize_name(requirement.name) for requirement in DIRECT}
    missing = {
        (module, str(path.relative_to(ROOT)))
        for path in SOURCES
        for module in imported(path)
        if module not in sys.stdlib_module_names
        and module not in own
        and not direct & {canonicalize_name(name) for name in packages.get(module, [module])}
    }
    assert not missing


def test_make_help_lists_every_target():
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) == set(re.findall(r"^  make (\S+) ", said, re.MULTILINE))
    assert {"book", "test", "bench", "drift", "pdf", "links"} <= set(targets)


def test_ci_runs_the_tests_and_the_workflows_run_the_same_targets():
    assert "make test" in (ROOT / ".ci/run").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        steps = [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
        runs = [step["run"] for step in steps if step.get("run", "").startswith("make")]
        assert runs and all(run.split()[1] in targets for run in runs)


def test_the_book_is_published_only_after_tests_and_book():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert set(jobs["publish"]["needs"]) == {"test", "book"}
    # The pages can be tested only where they were built: in another job those tests skip.
    runs = [step["run"] for step in jobs["book"]["steps"] if "run" in step]
    pages = "tests/project/test_book.py"
    made = [run for run in runs if run.startswith("make ")]
    assert made == ["make book", f"make test PYTEST_FLAGS={pages}", "make drift"] and (ROOT / pages).is_file()
    said = "".join(run for run in runs if "GITHUB_STEP_SUMMARY" in run)
    assert all(part in said for part in ("make -s drift", "make -s times", "[The book of this run]"))


def test_citation_has_what_the_format_asks_for():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert str(found["version"]) == PROJECT["version"]
