import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DATA = "/data/o'brien; touch X"  # a folder that is shell unless it is quoted


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The project as a fresh clone has it: nothing built."""
    target = tmp_path_factory.mktemp("checkout")
    for name in ("src", "data_prep", "notebooks", "scripts", "config", "profiles", "book", "results"):
        shutil.copytree(
            ROOT / name, target / name, ignore=shutil.ignore_patterns("_build", "*.ipynb", "__pycache__")
        )
    for name in ("Snakefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, target)
    return target


def dry_run(checkout, profile, *flags):
    command = [
        BIN / "snakemake",
        "--configfile",
        f"config/{profile}.yaml",
        "-n",
        "-p",
        "--cores",
        "2",
        *flags,
    ]
    environment = os.environ | {"PADIM_ACE_DATA": DATA}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def plans(checkout):
    return {profile: dry_run(checkout, profile) for profile in ("demo", "paper")}


def config(profile):
    return yaml.safe_load((ROOT / f"config/{profile}.yaml").read_text())


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_a_cold_run_makes_everything_once(plans, profile):
    settings, plan = config(profile), plans[profile]
    first, *others = settings["backbones"]
    for dataset in settings["datasets"]:
        assert plan.count(f"output: build/{profile}/prepared/{dataset}/manifest.csv") == 1
        for backbone in (first, "baselines", *(others if dataset in settings["compared"] else [])):
            assert plan.count(f"output: build/{profile}/score/{dataset}-{backbone}/scores.csv") == 1
    assert f"output: results/{profile}/scores.csv" in plan
    assert "output: book/_build/html/index.html" in plan


def test_a_profile_leaves_the_committed_results_of_the_other_alone(plans):
    assert not re.search(r"output: .*results/paper/", plans["demo"])
    assert not re.search(r"output: .*results/demo/", plans["paper"])


def commands(plan):
    return [shlex.split(line) for line in re.findall(r"papermill .*? 2>&1", plan)]


def parameters(notebook):
    text = (ROOT / "notebooks" / f"{notebook}.py").read_text()
    cell = text.split('tags=["parameters"]')[1].split("\n# %%")[0].partition("\n")[2]
    return {target.id for node in ast.parse(cell).body for target in node.targets}


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_notebooks_have_the_parameters_that_they_are_given(plans, profile):
    found = commands(plans[profile])
    assert len(found) > 15
    for command in found:
        known = parameters(Path(command[1]).stem)
        for flag, value in zip(command, command[1:], strict=False):
            if flag in ("-r", "-p"):
                assert value in known, (command[1], value)
            elif flag == "-y":
                assert set(json.loads(value)) <= known, (command[1], value)


@pytest.mark.parametrize(("profile", "dataset"), [("demo", "demo_sea"), ("paper", "ssdd")])
def test_the_chapter_on_your_own_images_runs_on_the_profiles_own(plans, profile, dataset):
    (command,) = [c for c in commands(plans[profile]) if c[1] == "notebooks/use_your_own.ipynb"]
    assert command[command.index("images") + 1] == f"build/{profile}/prepared/{dataset}"
    assert command[command.index("backbone") + 1] == config(profile)["backbones"][0]


def test_data_and_settings_reach_the_preparation(plans):
    prepare = [command for command in commands(plans["paper"]) if command[1] == "notebooks/prepare.ipynb"]
    by_out = {command[command.index("out") + 1]: command for command in prepare}
    kmeans = by_out["build/paper/prepared/ssdd_kmeans"]
    assert kmeans[kmeans.index("dataset") + 1] == "ssdd_kmeans"
    assert '{"settings": {"tile_size": 200}}' in by_out["build/paper/prepared/hrsid"]
    assert all(command[command.index("data") + 1] == DATA for command in prepare)


def test_modules_that_a_notebook_imports_are_its_inputs(plans):
    """Against what Python itself loads."""
    rooms = ["report.tables", "report.html_tables", "paper.published", "experiment.results"]
    names = [f"padim_ace.{name}" for name in rooms]
    code = f"import sys, {', '.join(names)}; print(*(m for m in sys.modules if m.startswith('padim_ace.')))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    inputs = re.search(r"input: (notebooks/ledger\.ipynb.*)", plans["demo"])[1].split(", ")
    assert {f"src/{module.replace('.', '/')}.py" for module in loaded} <= set(inputs)
    assert (
        "src/padim_ace/experiment/experiment.py" not in inputs
    )  # a change in scoring does not make the ledger's page again
    score = re.search(r"input: (notebooks/score\.ipynb.*)", plans["demo"])[1].split(", ")
    modules = {"src/padim_ace/experiment/experiment.py", "src/padim_ace/detect/statistics.py"}
    assert modules | {"constraints.txt"} <= set(score)
    prepare = re.search(r"input: (notebooks/prepare\.ipynb.*)", plans["demo"])[1].split(", ")
    assert "data_prep/target_removal.py" in prepare
    for path in (
        "src/padim_ace/report/tables.py",
        "src/padim_ace/report/preparation.py",
    ):  # a new look prepares and scores nothing again
        assert path not in score and path not in prepare


def test_the_slurm_profile_plans_the_same_jobs(checkout, plans):
    plan = dry_run(checkout, "paper", "--profile", "profiles/slurm")
    count = r"^total\s+(\d+)$"
    assert re.search(count, plan, re.MULTILINE)[1] == re.search(count, plans["paper"], re.MULTILINE)[1]
    assert "runtime=120" in plan


def test_any_parameter_can_be_changed_for_one_run(checkout):
    plan = dry_run(checkout, "demo", "--config", "device=cuda", "batch_size=64")
    assert "-r device cuda" in plan and "-p batch_size 64" in plan
