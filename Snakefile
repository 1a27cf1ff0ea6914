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

import yaml

from padim_ace.experiment import results
from padim_ace.experiment.baselines import BASELINES

if not config:
    configfile: "config/demo.yaml"

PROFILE = config["profile"]
BUILD = f"build/{PROFILE}"
RESULTS = f"results/{PROFILE}"
DATASETS = list(config["datasets"])
FIRST = config["backbones"][0]
MANIFEST = f"{BUILD}/prepared/{{dataset}}/manifest.csv"
WRITTEN = ["scores.csv", "provenance.json", "seeds.json", *results.JOINED]  # in results/<profile>

# What a notebook is run again for: the rooms that decide what it shows. One that makes data is not run again for a
# module that only draws: all that follows from it would be too.
MEASURE = ["data_prep/errors.py", "data_prep/files.py", "src/padim_ace/detect", "src/padim_ace/experiment", "src/padim_ace/paper"]
PEERS = [f"src/padim_ace/experiment/{name}.py" for name in ("anomalib_baselines", "dataset", "metrics", "protocols")]
ROOMS = {"prepare": ["data_prep"]} | dict.fromkeys(["score", "baselines"], MEASURE)
SHOW = [*MEASURE, "src/padim_ace/report", "src/padim_ace/anomalib", "src/padim_ace/scene", "data_prep"]


def parameters(notebook):
    """The parameters of a notebook with their defaults, from its cell of parameters."""
    cell = Path(f"notebooks/{notebook}.py").read_text().split('# %% tags=["parameters"]\n')[1].split("\n# %%")[0]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell).body}


# A page of results is a notebook that reads a folder `results` and writes nothing. It shows the committed numbers of
# the profile that its default names, whichever profile is being built.
PARAMETERS = {path.stem: parameters(path.stem) for path in sorted(Path("notebooks").glob("*.py"))}
SEVERAL = {"table": [1, 2, 3, 4]}  # notebooks that make several pages, by the parameter of their name
SHOWN = {
    page: {"notebook": name, "profile": Path(values["results"]).name, "values": given}
    for name, values in PARAMETERS.items()
    if "results" in values and name not in ROOMS
    for page, given in ({f"{name}_{v}": {name: v} for v in SEVERAL[name]} if name in SEVERAL else {name: {}}).items()
}
# The images of a dataset of another profile are not at hand: its page says how to build them.
LOCALISED = sorted({name for path in Path("config").glob("*.yaml") for name in yaml.safe_load(path.read_text())["datasets"]})
RUNS = expand("{dataset}-{backbone}", dataset=DATASETS, backbone=[FIRST, "baselines"])
RUNS += expand("{dataset}-{backbone}", dataset=config["compared"], backbone=config["backbones"][1:])
PAGES = [*SHOWN, "try_it", "use_your_own", "whole_scene"]
PAGES += expand("localisation_{dataset}", dataset=LOCALISED) + expand("prepare_{dataset}", dataset=DATASETS)
PAGES += [f"baselines_{run.removesuffix('-baselines')}" if "-baselines" in run else f"score_{run}" for run in RUNS]

# Runs input.notebook into a scratch file, and puts it in its place with a stamp of its inputs and of what it took.
# What a failed notebook printed stays in running/ beside the pages.
RUN = "python scripts/book.py run {output.page} {params.values} {input}"


def given(**values):
    """Parameters as papermill's command line takes them, quoted for the shell."""
    return shlex.join(word for name, value in values.items() for word in ("-y", json.dumps({name: value})))


def common(name):
    """What every notebook depends on beside its data: its source, the modules of its rooms, the lock file."""
    rooms = [Path(room) for room in ROOMS.get(name, SHOW)]
    modules = {str(path) for room in rooms for path in ([room] if room.is_file() else room.rglob("*.py"))}
    return {"notebook": f"notebooks/{name}.ipynb", "modules": sorted(modules), "lock": "constraints.txt"}


wildcard_constraints:
    dataset="[a-z0-9_]+",
    backbone="(?!baselines)[a-z0-9_]+",


localrules: all, notebook, collect, collect_rivals, detect_scenes


rule all:
    input:
        "book/_build/html/index.html",
        expand(f"{RESULTS}/{{name}}", name=WRITTEN),
        expand(MANIFEST, dataset=DATASETS),
        expand(f"{BUILD}/score/{{run}}/scores.csv", run=RUNS),
        expand(f"{BUILD}/notebooks/{{page}}.ipynb", page=PAGES),


rule notebook:
    input: "notebooks/{name}.py"
    output: "notebooks/{name}.ipynb"
    shell: "jupytext --quiet --to ipynb --set-kernel python3 --output {output} {input}"


rule prepare:
    input: **common("prepare")
    output:
        manifest=MANIFEST,
        preparation=f"{BUILD}/prepared/{{dataset}}/preparation.json",
        page=f"{BUILD}/notebooks/prepare_{{dataset}}.ipynb",
    params:
        values=lambda wildcards: given(
            dataset=wildcards.dataset,
            data=os.environ.get("PADIM_ACE_DATA", ""),
            raw=f"{BUILD}/raw/{wildcards.dataset}",
            out=f"{BUILD}/prepared/{wildcards.dataset}",
            processes=2,
            settings=config["datasets"][wildcards.dataset],
        ),
    threads: 1
    shell: RUN


def scoring(dataset, out, **more):
    settings = {name: config[name] for name in ("device", "seeds", "image_size", "batch_size", "threads")}
    where = {"prepared": f"{BUILD}/prepared/{dataset}", "out": f"{BUILD}/{out}"}
    return given(dataset=dataset, profile=PROFILE, **where, **settings | more)


def scored(folder, *names):
    return {Path(name).stem: f"{BUILD}/{folder}/{name}" for name in ("scores.csv", "provenance.json", *names)}


rule score:
    input: **common("score"), manifest=MANIFEST
    output:
        **scored("score/{dataset}-{backbone}", "seeds.json", "maps.npz"),
        page=f"{BUILD}/notebooks/score_{{dataset}}-{{backbone}}.ipynb",
    params:
        values=lambda wildcards: scoring(
            wildcards.dataset,
            f"score/{wildcards.dataset}-{wildcards.backbone}",
            backbone=wildcards.backbone,
            # networks that were never trained are only compared
            seeds=config["rival_seeds" if wildcards.backbone.endswith("_random") else "seeds"],
        ),
    threads: config["threads"]
    shell: RUN


rule baselines:
    input: **common("baselines"), manifest=MANIFEST
    output:
        **scored("score/{dataset}-baselines", "not_run.csv"),
        page=f"{BUILD}/notebooks/baselines_{{dataset}}.ipynb",
    params:
        values=lambda wildcards: scoring(wildcards.dataset, f"score/{wildcards.dataset}-baselines"),
    threads: config["threads"]
    shell: RUN


def rivals(dataset):
    """The paper's own on every dataset, the others where the recommended detector is compared."""
    number = config["rivals"].get(dataset)  # of seeds
    run = [name for name, baseline in BASELINES.items() if baseline.rival and (name == "dfm" or number)]
    return {"rivals": run, "seeds": config["rival_seeds"][:number]}


# What takes hours, `make rivals`. Nothing else asks for it: a page reads the copy in results/<profile>, which no rule makes.
use rule baselines as rivals with:
    input: notebook="notebooks/baselines.ipynb", modules=PEERS, manifest=MANIFEST
    output:
        **scored("rivals/{dataset}-rivals"),
        page=f"{BUILD}/rivals/{{dataset}}-rivals/rivals_{{dataset}}.ipynb",
    params:
        values=lambda wildcards: scoring(
            wildcards.dataset, f"rivals/{wildcards.dataset}-rivals", **rivals(wildcards.dataset)
        ),


rule collect:
    input: expand(f"{BUILD}/score/{{run}}/scores.csv", run=RUNS)
    output: expand(f"{RESULTS}/{{name}}", name=WRITTEN)
    run:
        results.collect([Path(path).parent for path in input], Path(output[0]).parent)


use rule collect as collect_rivals with:
    input: expand(f"{BUILD}/rivals/{{dataset}}-rivals/scores.csv", dataset=DATASETS)
    output: f"{BUILD}/rivals/scores.csv", f"{BUILD}/rivals/provenance.json"


def shown(wildcards):
    """The results of a page's profile: those of this run if it is the one being built, else what is committed."""
    profile = SHOWN[wildcards.page]["profile"]
    paths = [f"results/{profile}/{name}" for name in WRITTEN]
    rivals = [f"results/{profile}/rivals.{kind}" for kind in ("csv", "json")]
    return [path for path in paths + rivals if Path(path).is_file() or (profile == PROFILE and path in paths)]


rule result_page:
    input:
        unpack(lambda wildcards: common(SHOWN[wildcards.page]["notebook"])),
        results=shown,
        published="book/published.csv",
    output: page=f"{BUILD}/notebooks/{{page}}.ipynb"
    wildcard_constraints: page="|".join(SHOWN)
    params: values=lambda wildcards: given(**SHOWN[wildcards.page]["values"])
    shell: RUN


rule use_your_own:
    input: **common("use_your_own"), manifest=expand(MANIFEST, dataset=config["use_your_own"]["dataset"])
    output: page=f"{BUILD}/notebooks/use_your_own.ipynb"
    params:
        values=given(
            images=f"{BUILD}/prepared/{config['use_your_own']['dataset']}",
            out=f"{BUILD}/use_your_own",
            backbone=FIRST,
            every=config["use_your_own"]["every"],
        ),
    threads: 2
    shell: RUN


rule whole_scene:
    input: **common("whole_scene")
    output: page=f"{BUILD}/notebooks/whole_scene.ipynb"
    params:
        values=given(
            data=os.environ.get("PADIM_ACE_DATA", "") if "hrsid" in DATASETS else "",
            out=f"{BUILD}/whole_scene",
            backbone=FIRST,
            seas=48 if "hrsid" in DATASETS else 2,
            threads=2,
        ),
    threads: 2
    shell: RUN


rule try_it:
    input: **common("try_it")
    output:
        model=f"{BUILD}/try_it/weights/onnx/model.onnx",
        told=f"{BUILD}/try_it/try_it.json",
        page=f"{BUILD}/notebooks/try_it.ipynb",
    params:
        values=given(out=f"{BUILD}/try_it"),
    threads: 2
    shell: RUN


rule localisation:
    input:
        **common("figure_localisation"),
        maps=lambda wildcards: f"{BUILD}/score/{wildcards.dataset}-{FIRST}/maps.npz" if wildcards.dataset in DATASETS else [],
    output: page=f"{BUILD}/notebooks/localisation_{{dataset}}.ipynb"
    params: values=lambda wildcards, input: given(dataset=wildcards.dataset, maps=f"{input.maps}")
    shell: RUN


# Scenes of a folder through a model that `padim-ace fit` wrote, a job for each, apart from the book:
#   snakemake detect_scenes --configfile config/demo.yaml --cores 4 --config scenes=<folder> model=ship.pt found=<folder>
FOUND = config.get("found", "build/found")
SCENES = {path.stem: str(path) for path in sorted(Path(config.get("scenes", "scenes")).glob("*.tif*"))}


rule detect_scenes:
    input: expand(f"{FOUND}/{{scene}}.geojson", scene=SCENES)


rule detect_scene:
    input:
        model=config.get("model", "ship.pt"),
        scene=lambda wildcards: SCENES[wildcards.scene],
    output: multiext(f"{FOUND}/{{scene}}", ".score.tif", ".png", ".geojson")
    params:
        pfa=config.get("pfa", 1e-5),
        out=FOUND,
    threads: config["threads"]
    shell: "OMP_NUM_THREADS={threads} padim-ace detect {input.model:q} {input.scene:q} --pfa {params.pfa} -o {params.out:q}"


rule book:
    input:
        pages=expand(f"{BUILD}/notebooks/{{page}}.ipynb", page=PAGES),
        results=["results/demo/scores.csv", "results/paper/scores.csv"],
        prose=sorted(str(path) for path in Path("book").rglob("*") if path.is_file() and "_build" not in path.parts),
        script=["scripts/book.py", "scripts/try_it.py"],
        documented=common("book")["modules"],
    output: "book/_build/html/index.html"
    params: profile=PROFILE
    shell: "python scripts/book.py html {params.profile}"
