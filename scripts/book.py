"""The book: run and stamp notebooks, put their pages and the prose together, and build HTML or PDF.

python scripts/book.py run PAGE.ipynb PARAMETERS INPUT...
python scripts/book.py html|pdf|links|times PROFILE
"""

from __future__ import annotations

import functools
import http.server
import inspect
import math
import pkgutil
import re
import resource
import shutil
import subprocess
import sys
import threading
from html import unescape
from http.client import HTTPException
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import nbformat
import pages
import pandas as pd
import try_it
import yaml

from data_prep.errors import DataError
from data_prep.files import sha256, write_atomic
from padim_ace.experiment import results
from padim_ace.paper import published
from padim_ace.report import html_tables, ledger, titles

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "book/_build/html"
PDF = {part: HTML.with_name(f"padim-ace{part}.pdf") for part in ("", "-appendix")}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


API = [
    *(f"padim_ace.{room}" for room in ("anomalib", "detect", "scene", "experiment", "paper", "report")),
    "data_prep",
]
"""The packages that have a page of their public names."""

KEEP = """([captions, appendix]) => {
  document.querySelectorAll('details').forEach(part => part.open = true);
  const nested = (part) => part.parentElement.closest('.toctree-wrapper');
  const parts = [...document.querySelectorAll('.toctree-wrapper')].filter((part) => !nested(part));
  const first = parts.length - captions.filter((caption) => caption.startsWith('Appendix')).length;
  parts.forEach((part, i) => (i >= first) !== appendix && part.remove());
}"""
"""Leaves the main part or the appendices of the book in one page."""


class BookError(RuntimeError):
    """Why the book can't be built, in one line."""


def run(page: Path, given: list[str], inputs: list[Path]) -> None:
    """Run the first of the inputs by papermill into a scratch file; put it in its place when it is done."""
    running = page.parents[1] / "running" / page.name
    running.parent.mkdir(parents=True, exist_ok=True)
    command = ["papermill", str(inputs[0]), str(running), *given, "-k", "python3", "--cwd", "."]
    command += ["--log-output", "--no-progress-bar"]
    pipe: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipe) as process:
        for line in process.stdout or ():
            if "TCP without encryption" not in line:
                print(line, end="", flush=True)
    if process.returncode:
        raise BookError(f"{page}: expected {inputs[0]} to run, found an error; {running} has it")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured = {"cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 1e6}  # s, GB
    stamp(running, page, inputs, measured)


def stamp(running: Path, page: Path, inputs: list[Path], measured: dict[str, float]) -> None:
    """Put an executed notebook in its place, with the checksums of what it was made from in its metadata."""
    notebook = nbformat.read(running, as_version=4)
    took = notebook.metadata.pop("papermill", {}).get("duration")
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
    # A notebook's .ipynb has random cell identifiers; what it says is in its .py.
    made_from = [path.with_suffix(".py") if path.suffix == ".ipynb" else path for path in inputs]
    notebook.metadata["padim_ace"] = {
        "inputs": {str(path): sha256(path) for path in made_from},
        "seconds": took,
        **measured,
    }
    write_atomic(page, nbformat.writes(notebook).encode())


def check_stamp(page: Path, notebook: Any) -> None:
    """Refuse a page of which an input has changed since it was made."""
    for name, found in notebook.metadata.get("padim_ace", {"inputs": {"stamp": ""}})["inputs"].items():
        path = ROOT / name
        if not path.is_file() or sha256(path) != found:
            raise BookError(
                f"{page}: expected {name} as it was when the page was made, found it changed; `make book`"
            )


def sources(profile: str) -> Path:
    """Put the book's sources together in build/<profile>/book: prose, executed pages, API, scripts, fonts."""
    build = ROOT / "build" / profile
    book = build / "book"
    shutil.rmtree(book, ignore_errors=True)
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("_build"))
    for prose in book.glob("*.md"):
        prose.write_text(pages.unbroken(prose.read_text(encoding="utf-8")), encoding="utf-8")
    for page in sorted((build / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(page, as_version=4)
        check_stamp(page, notebook)
        pages.finish(notebook, page.stem, book)
        nbformat.write(notebook, book / page.name)
    pages.join_made(book)
    _api_pages(book)
    needed = html_tables.table(needs(profile), "What it takes, as measured.", "needs", form=".1f")
    (book / "figures/needs.html").write_text(needed.data, encoding="utf-8")
    _extra_files(book / "_extra")
    try_it.add(build, book)
    _toc(book)
    _config(book)
    return book


def public_names(package: str) -> dict[str, list[str]]:
    """The public names of a package, by the module that defines each."""
    room = import_module(package)
    named: dict[str, list[str]] = {}
    for name in room.__all__:
        thing = getattr(room, name)
        if not inspect.ismodule(thing):
            defined = getattr(thing, "__module__", "") if callable(thing) else ""
            named.setdefault(defined or _assigned_in(room, name), []).append(name)
    return named


def _assigned_in(room: Any, name: str) -> str:
    """The module of a package in which a constant is assigned."""
    for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        source = inspect.getsource(import_module(found.name))
        if re.search(rf"^{name}\b.*=", source, re.MULTILINE):
            return found.name
    raise BookError(f"{room.__name__}: expected a module that assigns {name}, found none; correct __all__")


def _api_pages(book: Path) -> None:
    """One page per room, with its public names and no others, from their docstrings."""
    for package in API:
        room = import_module(package)
        parts = [f"# `{package}`", f"{room.__doc__}"]
        for module, names in public_names(package).items():
            members = ", ".join(names)
            parts.append(f"## `{module.rpartition('.')[2]}`")
            parts.append(f"```{{eval-rst}}\n.. automodule:: {module}\n   :members: {members}\n```")
        write_atomic(book / "api" / f"{package}.md", "\n\n".join(parts).encode())


def _extra_files(extra: Path) -> None:
    """What the pages load or offer beside themselves: MathJax, DataTables, and the notebooks in two forms."""
    mathjax = Path(str(files("mathjax"))) / "static/mathjax/es5"
    target = extra / "_static/mathjax"
    (target / "output/chtml").mkdir(parents=True)
    shutil.copy(mathjax / "tex-mml-chtml.js", target)
    shutil.copytree(mathjax / "input/tex/extensions", target / "input/tex/extensions")
    shutil.copytree(mathjax / "output/chtml/fonts", target / "output/chtml/fonts")
    (extra / "_static/itables").mkdir()
    shutil.copy(Path(str(files("itables"))) / "html/dt_bundle.js", extra / "_static/itables")
    pages.offer(extra / "files")


def _toc(book: Path) -> None:
    """Leave out of the contents what was not made: a glob that matches no page is an error."""
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    for part in toc["parts"]:
        part["chapters"] = [
            e for e in part["chapters"] if "glob" not in e or [*book.glob(f"{e['glob']}.ipynb")]
        ]
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    (book / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def _config(book: Path) -> None:
    """Give the prose its numbers: {{ name }} in a page is an entry of padim_ace.report.ledger.numbers."""
    config = yaml.safe_load((book / "_config.yml").read_text(encoding="utf-8"))
    folder = ROOT / "results/paper"
    scores = results.read_scores(folder)
    paper = published.read_published(ROOT / "book/published.csv")
    config["sphinx"]["config"]["myst_substitutions"] = ledger.numbers(paper, scores, folder)
    (book / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def measured(profile: str) -> pd.DataFrame:
    """What the notebooks of the last run took: wall time and processor time in seconds, memory in GB."""
    paths = sorted((ROOT / "build" / profile / "notebooks").glob("*.ipynb"))
    stamps = [nbformat.read(path, as_version=4).metadata["padim_ace"] for path in paths]
    return pd.DataFrame(stamps, [path.stem for path in paths]).reindex(columns=["seconds", "cpu", "memory"])


def needs(profile: str) -> pd.DataFrame:
    """What it takes to make pages again, as measured: those made here, and the paper's numbers."""
    kinds = dict.fromkeys([*pages.LIGHT, "deviations"], ("each page of results", "`results/`"))
    kinds |= dict.fromkeys(
        [*pages.MADE, "fill_visibility"], (f"all numbers of profile {profile}", "its images")
    )
    kinds |= dict.fromkeys(["front", "figure_localisation"], ("the figures with images", "these images"))
    found = measured(profile)
    named = [pages.source_of(page) for page in found.index]
    found["what"], found["data"] = zip(
        *(kinds.get(name, (name, "its images")) for name in named), strict=True
    )
    rows = []
    for (what, data), part in found.groupby(["what", "data"]):
        cpu = part["cpu"].median() if data == "`results/`" else part["cpu"].sum(min_count=1)
        rows.append((what, cpu / 60, part["memory"].max(), data))
    runs = pd.DataFrame(
        {**run["parameters"], "seconds": run["seconds"]}
        for run in results.read_json(ROOT / "results/paper/provenance.json")["runs"].values()
    )
    images = ledger.prepared_images(ROOT / "results/paper")
    for dataset, part in runs.groupby("dataset"):
        what = f"all numbers of {titles.dataset_title(dataset)}"
        rows.append((what, part["seconds"].sum() / 60, math.nan, f"{images[dataset]} images"))
    return pd.DataFrame(rows, columns=["To make again", "CPU minutes", "Memory, GB", "Data"])


def build(profile: str, builder: str = "html") -> Path:
    """Build the book with jupyter-book, warnings as errors; the folder of its pages."""
    book = sources(profile)
    out = ROOT / "build" / profile / "pages"
    shutil.rmtree(out, ignore_errors=True)
    command = ["jupyter-book", "build", str(book), "--path-output", str(out), "--builder", builder]
    subprocess.run([*command, "-W", "-n", "--keep-going", "-q"], check=True)
    return out / "_build" / builder


def made_from() -> dict[str, str]:
    """Checksums of what the book is made from: results, notebooks, prose and modules."""
    patterns = (
        "results/*/*.csv",
        "results/*/*.json",
        "notebooks/*.py",
        "book/*.md",
        "src/**/*.py",
        "data_prep/**/*.py",
    )
    return {str(path.relative_to(ROOT)): sha256(path) for pattern in patterns for path in ROOT.glob(pattern)}


def stamp_book() -> None:
    """Write beside the built pages what they were made from."""
    results.write_json(made_from(), HTML / "made_from.json")


def html(profile: str) -> None:
    """Build the book's pages into book/_build/html, which changes only when they are whole."""
    built = build(profile)
    HTML.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(HTML, ignore_errors=True)
    shutil.move(built, HTML)
    stamp_book()
    (HTML / "index.html").touch()


def browser() -> str:
    """A Chromium on this machine."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise BookError(f"browser: expected one of {', '.join(BROWSERS)}, found none; install Chromium")


def serve(folder: Path) -> http.server.ThreadingHTTPServer:
    """Serve a folder on a free port of this machine, in the background; stop it with ``shutdown()``."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def pdf(profile: str) -> None:
    """Print the book to two PDFs: its main part, and its appendices."""
    from playwright.sync_api import sync_playwright

    parts = yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))["parts"]
    captions = [part["caption"] for part in parts]
    server = serve(build(profile, "singlehtml"))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser(), args=["--no-sandbox", "--disable-gpu"]
        )
        for part, path in PDF.items():
            page = chromium.new_page(color_scheme="light")
            page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
            page.wait_for_function("window.MathJax?.startup?.promise?.then(() => true)")
            page.evaluate(KEEP, [captions, bool(part)])
            page.emulate_media(media="print")
            page.add_style_tag(content="section > h2 { break-before: page }")  # a chapter
            path.parent.mkdir(parents=True, exist_ok=True)
            edge = {"top": "16mm", "bottom": "16mm", "left": "14mm", "right": "14mm"}
            page.pdf(path=str(path), format="A4", margin=edge)  # type: ignore[arg-type]
            page.close()
            print(path)
        chromium.close()
    server.shutdown()


def asked(url: str) -> str:
    """What an address answers: its status, or FAIL and why when it is gone or nothing answers.

    Some sites refuse programs what they show to readers (401, 403, 429, …): that is an answer too.
    """
    try:
        with urlopen(Request(url, headers={"User-Agent": "padim-ace link check"}), timeout=30) as answer:
            return str(answer.status)
    except HTTPError as error:
        return f"FAIL {error}" if error.code in (404, 410) else str(error.code)
    except (OSError, HTTPException) as error:
        return f"FAIL {error}"


def links(profile: str) -> None:
    """Ask for every outside address that the book's pages link to; fail if one is gone."""
    found: dict[str, Path] = {}
    for page in sorted(HTML.rglob("*.html")):
        for url in re.findall(r'<a [^>]*href="(https?://[^"#]+)', page.read_text(encoding="utf-8")):
            found.setdefault(unescape(url), page)
    answers = {url: asked(url) for url in found}
    for url, answer in answers.items():
        print(f"{answer:>6}  {url}  ({found[url].relative_to(HTML)})")
    if failed := sum(answer.startswith("FAIL") for answer in answers.values()):
        raise BookError(f"links: expected {len(found)} addresses to answer, found {failed} that did not")


def times(profile: str) -> None:
    """Print :func:`measured` as Markdown, the longest first, for the summary of a job."""
    print("| notebook | s | CPU s | GB |\n|---|--:|--:|--:|")
    for name, *values in measured(profile).sort_values("seconds", ascending=False).itertuples():
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |")


def main(arguments: list[str]) -> None:
    command, *rest = arguments
    if command == "run":
        values = rest.index(next(word for word in rest[1:] if word.endswith(".ipynb")))
        run(Path(rest[0]), rest[1:values], [Path(word) for word in rest[values:]])
    else:
        {"html": html, "pdf": pdf, "links": links, "times": times}[command](*rest)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (BookError, DataError) as error:
        sys.exit(str(error))
