# From raw images to the book. Each arrow is one notebook, run by papermill; each noun is a folder:
#
#   raw release ──prepare──▶ prepared dataset ──score──▶ results/<profile>/scores.csv ──table_*, figure_*──▶ book
#
# `make book PROFILE=demo|paper` calls this file with config/<profile>.yaml. A notebook gets every value as a
# parameter: none reads the configuration.
import ast
import json
import os
import shlex
from pathlib import Path

if not config:
    configfile: "config/demo.yaml"

PROFILE = config["profile"]
BUILD = f"build/{PROFILE}"
RESULTS = f"results/{PROFILE}"
DATASETS = list(config["datasets"])
DRAWING = {"figures", "html_tables", "published", "tables"}  # modules that show numbers and make none
MEASURED = ["fill", "clamp", "histograms", "areas"]  # tables beside scores.csv

# The page of a result shows the committed numbers of its own profile, whichever profile is being built.
SHOWN = {"table_1": "paper", "table_2": "paper", "table_3": "paper", "table_4": "paper", "ledger": "paper"}
SHOWN |= {"table_demo": "demo", "deviations": "paper", "beyond": "paper"}
SHOWN = {page: profile for page, profile in SHOWN.items() if Path(f"notebooks/{page}.py").is_file()}
LOCALISED = ["mstar", "ssdd", "hrsid", "demo_vehicle", "demo_sea", "demo_harbour"]
RUNS = expand("{dataset}-{backbone}", dataset=DATASETS, backbone=[config["backbones"][0], "baselines"])
RUNS += expand("{dataset}-{backbone}", dataset=config["compared"], backbone=config["backbones"][1:])
PAGES = [*SHOWN, "fill_visibility", "image_scores", "use_your_own"]
PAGES += expand("localisation_{dataset}", dataset=LOCALISED) + expand("prepare_{dataset}", dataset=DATASETS)
PAGES += [f"baselines_{run.removesuffix('-baselines')}" if "-baselines" in run else f"score_{run}" for run in RUNS]

# Runs input.notebook into a scratch file, and puts it in its place with a stamp of its inputs when it is done.
# What a failed notebook printed stays in build/<profile>/running.
RUN = (
    f"mkdir -p {BUILD}/running && "
    "papermill {input.notebook} {params.running} -k python3 --log-output --no-progress-bar {params.values} "
    "2>&1 | grep --line-buffered -v 'TCP without encryption' && "
    "python scripts/book.py stamp {params.running} {output.page} {input}"
)


def running(wildcards, output):
    return f"{BUILD}/running/{Path(output.page).name}"


def yaml(name, value):
    """A parameter that is a list or a mapping, as papermill's command line takes it."""
    return f"-y {shlex.quote(json.dumps({name: value}))} "


def modules(source, found=None):
    """The project's own modules that a Python file imports, and that those import: a change in one reruns it."""
    found = set() if found is None else found
    for node in ast.walk(ast.parse(Path(source).read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        for name in names:
            path = name.replace(".", "/").replace("padim_ace/", "src/padim_ace/")
            path = f"{path}/__init__.py" if Path(path).is_dir() else f"{path}.py"
            if path.startswith(("src/", "data_prep/")) and path not in found and Path(path).is_file():
                found.add(path)
                modules(path, found)
    return sorted(found)


def common(name):
    """What every notebook depends on beside its data: its source, the modules, the lock file.

    A notebook that makes data is not run again for a module that only draws: all that follows from it would be too.
    """
    found = modules(f"notebooks/{name}.py")
    if name in ("prepare", "score", "baselines", "fill_visibility", "image_scores"):
        found = [path for path in found if Path(path).stem not in DRAWING]
    return {"notebook": f"notebooks/{name}.ipynb", "modules": found, "lock": "constraints.txt"}


wildcard_constraints:
    dataset="[a-z_]+",
    backbone="(?!baselines)[a-z0-9_]+",


localrules:
    all,
    notebook,
    collect,


rule all:
    input:
        "book/_build/html/index.html",
        f"{RESULTS}/scores.csv",
        f"{RESULTS}/provenance.json",
        expand(f"{RESULTS}/{{name}}.csv", name=MEASURED),
        expand(f"{BUILD}/prepared/{{dataset}}/manifest.csv", dataset=DATASETS),
        expand(f"{BUILD}/score/{{run}}/scores.csv", run=RUNS),
        expand(f"{BUILD}/notebooks/{{page}}.ipynb", page=PAGES),


rule notebook:
    input:
        "notebooks/{name}.py",
    output:
        "notebooks/{name}.ipynb",
    shell:
        "jupytext --quiet --to ipynb --set-kernel python3 --output {output} {input}"


rule prepare:
    input:
        **common("prepare"),
        code=sorted(str(path) for path in Path("data_prep").rglob("*.py")),
    output:
        manifest=f"{BUILD}/prepared/{{dataset}}/manifest.csv",
        preparation=f"{BUILD}/prepared/{{dataset}}/preparation.json",
        page=f"{BUILD}/notebooks/prepare_{{dataset}}.ipynb",
    params:
        running=running,
        values=lambda wildcards: preparation(wildcards.dataset),
    threads: 1
    shell:
        RUN


def preparation(dataset):
    words = ["-r", "dataset", dataset, "-r", "data", os.environ.get("PADIM_ACE_DATA", ""), "-p", "processes", "2"]
    words += ["-r", "raw", f"{BUILD}/raw/{dataset}", "-r", "out", f"{BUILD}/prepared/{dataset}"]
    return f"{shlex.join(words)} " + yaml("settings", config["datasets"][dataset])


def scoring(dataset, run):
    values = f"-r dataset {dataset} -r profile {PROFILE} -r prepared {BUILD}/prepared/{dataset} "
    values += f"-r out {BUILD}/score/{run} -r device {config['device']} " + yaml("seeds", config["seeds"])
    return values + " ".join(f"-p {name} {config[name]}" for name in ("image_size", "batch_size", "threads"))


rule score:
    input:
        **common("score"),
        manifest=f"{BUILD}/prepared/{{dataset}}/manifest.csv",
    output:
        scores=f"{BUILD}/score/{{dataset}}-{{backbone}}/scores.csv",
        provenance=f"{BUILD}/score/{{dataset}}-{{backbone}}/provenance.json",
        maps=f"{BUILD}/score/{{dataset}}-{{backbone}}/maps.npz",
        images=f"{BUILD}/score/{{dataset}}-{{backbone}}/image_scores.npz",
        studies=expand(f"{BUILD}/score/{{{{dataset}}}}-{{{{backbone}}}}/{{name}}.csv", name=["supervision", "selection"]),
        seeds=f"{BUILD}/score/{{dataset}}-{{backbone}}/seeds.json",
        page=f"{BUILD}/notebooks/score_{{dataset}}-{{backbone}}.ipynb",
    params:
        running=running,
        values=lambda wildcards: f"-r backbone {wildcards.backbone} "
        + scoring(wildcards.dataset, f"{wildcards.dataset}-{wildcards.backbone}"),
    threads: config["threads"]
    shell:
        RUN


rule baselines:
    input:
        **common("baselines"),
        manifest=f"{BUILD}/prepared/{{dataset}}/manifest.csv",
    output:
        scores=f"{BUILD}/score/{{dataset}}-baselines/scores.csv",
        provenance=f"{BUILD}/score/{{dataset}}-baselines/provenance.json",
        not_run=f"{BUILD}/score/{{dataset}}-baselines/not_run.csv",
        page=f"{BUILD}/notebooks/baselines_{{dataset}}.ipynb",
    params:
        running=running,
        values=lambda wildcards: scoring(wildcards.dataset, f"{wildcards.dataset}-baselines"),
    threads: config["threads"]
    shell:
        RUN


rule collect:
    input:
        scores=expand(f"{BUILD}/score/{{run}}/scores.csv", run=RUNS),
        provenance=expand(f"{BUILD}/score/{{run}}/provenance.json", run=RUNS),
        not_run=expand(f"{BUILD}/score/{{dataset}}-baselines/not_run.csv", dataset=DATASETS),
    output:
        scores=f"{RESULTS}/scores.csv",
        provenance=f"{RESULTS}/provenance.json",
        joined=expand(f"{RESULTS}/{{name}}", name=["not_run.csv", "supervision.csv", "selection.csv", "seeds.json"]),
    run:
        from padim_ace.experiment.results import collect

        collect([Path(path).parent for path in input.scores], Path(output.scores).parent)


rule fill_visibility:
    input:
        **common("fill_visibility"),
        manifests=expand(f"{BUILD}/prepared/{{dataset}}/manifest.csv", dataset=config["erased"]),
    output:
        fill=f"{RESULTS}/fill.csv",
        page=f"{BUILD}/notebooks/fill_visibility.ipynb",
    params:
        running=running,
        values=yaml("prepared", [f"{BUILD}/prepared/{dataset}" for dataset in config["erased"]])
        + yaml("every", list(config["erased"].values()))
        + f"-r results {RESULTS} -r backbone {config['backbones'][0]} -p threads {config['threads']}",
    threads: config["threads"]
    shell:
        RUN


rule image_scores:
    input:
        **common("image_scores"),
        images=expand(f"{BUILD}/score/{{dataset}}-{config['backbones'][0]}/image_scores.npz", dataset=DATASETS),
        prepared=expand(f"{BUILD}/prepared/{{dataset}}/manifest.csv", dataset=DATASETS),
    output:
        tables=expand(f"{RESULTS}/{{name}}.csv", name=["clamp", "histograms", "areas"]),
        page=f"{BUILD}/notebooks/image_scores.ipynb",
    params:
        running=running,
        values=yaml("runs", [f"{BUILD}/score/{dataset}-{config['backbones'][0]}" for dataset in DATASETS])
        + yaml("prepared", [f"{BUILD}/prepared/{dataset}" for dataset in DATASETS])
        + f"-r results {RESULTS}",
    shell:
        RUN


def shown(wildcards):
    """The results that a page shows: all those of its profile if it is the one being built, else what is committed."""
    profile = SHOWN[wildcards.page]
    names = ["scores.csv", "provenance.json", "not_run.csv"]
    names += {
        "deviations": ["fill.csv", "clamp.csv", "histograms.csv"],
        "beyond": ["supervision.csv", "selection.csv", "seeds.json", "areas.csv"],
    }.get(wildcards.page, [])
    paths = [f"results/{profile}/{name}" for name in names]
    return paths if profile == PROFILE else [path for path in paths if Path(path).is_file()]


rule result_page:
    input:
        unpack(lambda wildcards: common(wildcards.page)),
        results=shown,
        published="book/published.csv",
    output:
        page=f"{BUILD}/notebooks/{{page}}.ipynb",
    wildcard_constraints:
        page="|".join(SHOWN),
    params:
        running=running,
        values=lambda wildcards: f"-r results results/{SHOWN[wildcards.page]} "
        + ("" if wildcards.page == "table_demo" else "-r published book/published.csv"),
    shell:
        RUN


rule use_your_own:
    input:
        **common("use_your_own"),
        manifest=f"{BUILD}/prepared/{config['use_your_own']['dataset']}/manifest.csv",
    output:
        page=f"{BUILD}/notebooks/use_your_own.ipynb",
    params:
        running=running,
        values=f"-r images {BUILD}/prepared/{config['use_your_own']['dataset']} -r out {BUILD}/use_your_own "
        + f"-r backbone {config['backbones'][0]} -p every {config['use_your_own']['every']}",
    threads: 2
    shell:
        RUN


rule localisation:
    # The images of a dataset of the other profile are not at hand: its page says how to build them.
    input:
        **common("figure_localisation"),
        maps=lambda wildcards: (
            f"{BUILD}/score/{wildcards.dataset}-{config['backbones'][0]}/maps.npz"
            if wildcards.dataset in DATASETS
            else []
        ),
    output:
        page=f"{BUILD}/notebooks/localisation_{{dataset}}.ipynb",
    params:
        running=running,
        values=lambda wildcards, input: f"-r dataset {wildcards.dataset} -r maps '{input.maps}'",
    shell:
        RUN


rule book:
    input:
        pages=expand(f"{BUILD}/notebooks/{{page}}.ipynb", page=PAGES),
        results=["results/demo/scores.csv", "results/paper/scores.csv"],
        prose=sorted(str(path) for path in Path("book").rglob("*") if path.is_file() and "_build" not in path.parts),
        script="scripts/book.py",
        documented=sorted(str(path) for folder in ("src/padim_ace", "data_prep") for path in Path(folder).rglob("*.py")),
    output:
        "book/_build/html/index.html",
    params:
        profile=PROFILE,
    shell:
        "python scripts/book.py html {params.profile}"
