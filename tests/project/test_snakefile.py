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
DATA = "/data/o'brien; touch X"


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
    return [shlex.split(line) for line in re.findall(r"scripts/book.py run (.*)", plan)]


def given(command):
    """The parameters of a papermill command."""
    return {
        name: value
        for flag, text in zip(command, command[1:], strict=False)
        if flag == "-y"
        for name, value in json.loads(text).items()
    }


def notebook(command):
    """The name of the notebook that is run: the first input."""
    return next(Path(word).stem for word in command[1:] if word.endswith(".ipynb"))


def parameters(notebook):
    text = (ROOT / "notebooks" / f"{notebook}.py").read_text()
    cell = text.split('tags=["parameters"]')[1].split("\n# %%")[0].partition("\n")[2]
    return {target.id for node in ast.parse(cell).body for target in node.targets}


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_notebooks_have_the_parameters_that_they_are_given(plans, profile):
    found = commands(plans[profile])
    assert len(found) > 15
    for command in found:
        assert set(given(command)) <= parameters(notebook(command)), command


def test_the_slow_rivals_have_a_run_of_their_own_that_pages_and_our_detectors_do_not_repeat(checkout, plans):
    assert "rivals/" not in plans["paper"] + plans["demo"]
    plan = dry_run(checkout, "paper", "build/paper/rivals/scores.csv")
    found = [given(c) for c in commands(plan) if given(c).get("rivals")]
    assert {values["dataset"] for values in found} == set(config("paper")["datasets"])
    for values in found:
        number = config("paper")["rivals"].get(values["dataset"])
        assert values["seeds"] == config("paper")["rival_seeds"][:number]
        assert len(values["rivals"]) == (4 if number else 1)
    inputs = re.search(r"input: (notebooks/baselines\.ipynb.*)", plan)[1].split(", ")
    modules = {Path(path).stem for path in inputs if path.endswith(".py")}
    assert modules == {"anomalib_baselines", "dataset", "metrics", "protocols"}


def test_networks_that_were_never_trained_have_the_rivals_seeds(plans):
    score = [given(c) for c in commands(plans["paper"]) if notebook(c) == "score"]
    for values in score:
        few = values["backbone"].endswith("_random")
        assert values["seeds"] == config("paper")["rival_seeds" if few else "seeds"]
    assert "mobilevit_xs_random" in {values["backbone"] for values in score}


@pytest.mark.parametrize(("profile", "dataset"), [("demo", "demo_sea"), ("paper", "ssdd")])
def test_the_chapter_on_your_own_images_runs_on_the_profiles_own(plans, profile, dataset):
    (command,) = [c for c in commands(plans[profile]) if notebook(c) == "use_your_own"]
    assert given(command)["images"] == f"build/{profile}/prepared/{dataset}"
    assert given(command)["backbone"] == config(profile)["backbones"][0]


def test_data_and_settings_reach_the_preparation(plans):
    """The folder's name would run a command of its own if it were not quoted."""
    prepare = [given(c) for c in commands(plans["paper"]) if notebook(c) == "prepare"]
    settings = {values["dataset"]: values["settings"] for values in prepare}
    assert settings == config("paper")["datasets"] and settings["hrsid"] == {"tile_size": 200}
    assert {values["data"] for values in prepare} == {DATA}


def test_a_notebook_is_run_again_for_its_rooms(plans):
    def inputs(notebook):
        return set(re.search(rf"input: (notebooks/{notebook}\.ipynb.*)", plans["demo"])[1].split(", "))

    code = "import sys, padim_ace.report.tables; print(*(m for m in sys.modules if 'padim_ace.' in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = [Path(f"src/{module.replace('.', '/')}") for module in loaded.stdout.split()]
    assert {str(m / "__init__.py") if m.is_dir() else f"{m}.py" for m in modules} <= inputs("ledger") | {
        "src/padim_ace/__init__.py"
    }
    measures = {"src/padim_ace/experiment/experiment.py", "src/padim_ace/detect/statistics.py"}
    assert measures | {"src/padim_ace/paper/detectors.py", "constraints.txt"} <= inputs("score")
    assert "data_prep/target_removal.py" in inputs("prepare")
    drawing = {str(path.relative_to(ROOT)) for path in (ROOT / "src/padim_ace/report").glob("*.py")}
    assert drawing and drawing <= inputs("ledger")  # a new look prepares and scores nothing again
    assert not drawing & (inputs("score") | inputs("prepare") | inputs("baselines"))


def test_the_slurm_profile_plans_the_same_jobs(checkout, plans):
    plan = dry_run(checkout, "paper", "--profile", "profiles/slurm")
    count = r"^total\s+(\d+)$"
    assert re.search(count, plan, re.MULTILINE)[1] == re.search(count, plans["paper"], re.MULTILINE)[1]
    assert "runtime=120" in plan


@pytest.mark.parametrize("profile", [[], ["--profile", "profiles/slurm"]], ids=["local", "slurm"])
def test_the_scenes_of_a_folder_are_a_job_each(checkout, tmp_path, profile):
    (tmp_path / "a b").mkdir()
    for name in ("a b/one.tif", "a b/two.x.tiff", "a b/note.txt", "ship.pt"):
        (tmp_path / name).touch()
    given = [
        f"{name}={tmp_path / path}"
        for name, path in {"scenes": "a b", "model": "ship.pt", "found": "out"}.items()
    ]
    plan = dry_run(checkout, "demo", "detect_scenes", *profile, "--config", *given, "pfa=1e-6")
    runs = [shlex.split(line) for line in re.findall(r"padim-ace detect .*", plan)]
    assert sorted(run[3] for run in runs) == [f"{tmp_path}/a b/one.tif", f"{tmp_path}/a b/two.x.tiff"]
    for run in runs:
        assert run[2] == f"{tmp_path}/ship.pt" and run[4:] == ["--pfa", "1e-06", "-o", f"{tmp_path}/out"]
    assert f"output: {tmp_path}/out/one.score.tif" in plan and "rule score" not in plan


def test_any_parameter_can_be_changed_for_one_run(checkout):
    plan = dry_run(checkout, "demo", "--config", "device=cuda", "batch_size=64")
    score = [given(c) for c in commands(plan) if notebook(c) == "score"]
    assert {(values["device"], values["batch_size"]) for values in score} == {("cuda", 64)}
