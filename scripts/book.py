"""The book: stamp executed notebooks, put their pages and the prose together, and build HTML or PDF.

python scripts/book.py stamp RUNNING.ipynb PAGE.ipynb INPUT...
python scripts/book.py html|pdf|links PROFILE
"""

from __future__ import annotations

import functools
import http.server
import inspect
import os
import pkgutil
import re
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
import try_it
import yaml

from data_prep.errors import DataError
from data_prep.files import sha256, write_atomic
from padim_ace.experiment import results
from padim_ace.paper import published
from padim_ace.report import ledger, titles

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "book/_build/html"
PDF = ROOT / "book/_build/padim-ace.pdf"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


API = [
    *(f"padim_ace.{room}" for room in ("anomalib", "detect", "scene", "experiment", "paper", "report")),
    "data_prep",
]
"""The packages that have a page of their public names."""


class BookError(RuntimeError):
    """Why the book can't be built, in one line."""


def stamp(running: Path, page: Path, inputs: list[Path]) -> None:
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
        prose.write_text(unbroken(prose.read_text(encoding="utf-8")), encoding="utf-8")
    for page in sorted((build / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(page, as_version=4)
        check_stamp(page, notebook)
        _finish_page(notebook, page.stem, book)
        nbformat.write(notebook, book / page.name)
    _api_pages(book)
    _extra_files(book / "_extra")
    try_it.add(build, book)
    _config(book)
    return book


def unbroken(text: str) -> str:
    """Text in which no line ends between a number and its ± or %."""
    return re.sub(r"(?<=\d) (?=[±%])|(?<=±) (?=\d)", "\N{NO-BREAK SPACE}", text)


def source_of(page: str) -> str:
    """The notebook that a page was made by: ``score_mstar-resnet18`` by ``score``."""
    names = {path.stem for path in (ROOT / "notebooks").glob("*.py")} | {"localisation"}
    name = max((name for name in names if page == name or page.startswith(f"{name}_")), key=len)
    return "figure_localisation" if name == "localisation" else name


def launch_links(name: str) -> dict[str, str]:
    """Where a notebook can be opened without installing anything, once the project is public.

    The repository's name is given by the machine that publishes the book (GITHUB_REPOSITORY); else there are
    no links.
    """
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    if not repository:
        return {}
    return {
        "Binder": f"https://mybinder.org/v2/gh/{repository}/HEAD?urlpath=lab/tree/notebooks/{name}.ipynb",
        "Colab": f"https://colab.research.google.com/github/{repository}/blob/gh-pages/files/{name}.ipynb",
    }


def _is_progress(output: Any) -> bool:
    """Whether an output is a progress bar, as text or as a widget (whose script is of another host)."""
    widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return widget or output.get("name") == "stderr"


def _finish_page(notebook: Any, page: str, book: Path) -> None:
    """Drop progress bars, keep the headline figure for the first page, and say how to make the page again."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cell.source = unbroken(cell.source)
            continue
        cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.outputs:
            for kind in {"text/html", "text/markdown"} & set(output.get("data", {})):
                output["data"][kind] = unbroken(output["data"][kind])
        tags = cell.metadata.setdefault("tags", [])
        if "injected-parameters" in tags:  # what the page was made with, in place of the defaults
            tags.append("hide-input")
        elif "parameters" in tags:
            tags.append("remove-cell")
        if "headline" in tags:
            found = "".join(
                output["data"].get("text/html", "") for output in cell.outputs if "data" in output
            )
            (book / "figures" / "headline.html").write_text(found, encoding="utf-8")
    name = source_of(page)
    if page != name:
        _name_page(notebook, page)
    stamp = notebook.metadata["padim_ace"]
    links = [
        f'<a href="files/{name}.ipynb" download>notebook</a>',
        f'<a href="files/{name}.py">source</a>',
    ]
    links += [f'<a href="{url}">{where}</a>' for where, url in launch_links(name).items()]
    took = f"It took {stamp['seconds']:.0f} s. " if stamp["seconds"] else ""
    notebook.cells.append(
        nbformat.v4.new_markdown_cell(
            f'<div class="page-footer">Made by <code>notebooks/{name}.py</code> ({", ".join(links)}). {took}'
            f"Make it again alone: <code>make page PAGE={page}</code>.</div>",
        )
    )


def _name_page(notebook: Any, page: str) -> None:
    """Say in the title of a page which it is of those that one notebook makes.

    A cell tagged ``title`` puts out the title and what follows it; where there is none, the dataset and the
    backbone in the page's name are added to the notebook's title.
    """
    head = next(cell for cell in notebook.cells if cell.cell_type == "markdown" and "# " in cell.source)
    for cell in [cell for cell in notebook.cells if "title" in cell.metadata.get("tags", [])]:
        notebook.cells.remove(cell)
        before, _, after = re.split(r"^(# .*)$", head.source, maxsplit=1, flags=re.MULTILINE)
        head.source = before + cell.outputs[0]["data"]["text/markdown"] + after
        return
    dataset, _, backbone = page.partition("_")[2].partition("-")
    about = ", ".join(filter(None, (titles.dataset_title(dataset), titles.backbone_title(backbone))))
    about = re.sub(r"^[A-Z](?=[a-z])", lambda first: first[0].lower(), about)  # MSTAR, but simulated vehicles
    head.source = re.sub(r"^(# .*)$", rf"\1: {about}", head.source, count=1, flags=re.MULTILINE)


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
    (extra / "files").mkdir()
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        shutil.copy(path, extra / "files")
        if path.with_suffix(".ipynb").is_file():
            shutil.copy(path.with_suffix(".ipynb"), extra / "files")


def _config(book: Path) -> None:
    """Give the prose its numbers: {{ name }} in a page is an entry of padim_ace.report.ledger.numbers."""
    config = yaml.safe_load((book / "_config.yml").read_text(encoding="utf-8"))
    folder = ROOT / "results/paper"
    scores = results.read_scores(folder)
    paper = published.read_published(ROOT / "book/published.csv")
    config["sphinx"]["config"]["myst_substitutions"] = ledger.numbers(paper, scores, folder)
    (book / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


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
    pages = build(profile)
    HTML.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(HTML, ignore_errors=True)
    shutil.move(pages, HTML)
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
    """Print the whole book, as one page, to a PDF."""
    from playwright.sync_api import sync_playwright

    server = serve(build(profile, "singlehtml"))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(color_scheme="light")
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        page.wait_for_function("window.MathJax?.startup?.promise?.then(() => true)")
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        page.emulate_media(media="print")
        page.add_style_tag(content="section > h2 { break-before: page }")  # a chapter
        PDF.parent.mkdir(parents=True, exist_ok=True)
        page.pdf(
            path=str(PDF),
            format="A4",
            margin={"top": "16mm", "bottom": "16mm", "left": "14mm", "right": "14mm"},
        )
        chromium.close()
    server.shutdown()
    print(PDF)


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


def main(arguments: list[str]) -> None:
    command, *rest = arguments
    if command == "stamp":
        running, page, *inputs = map(Path, rest)
        stamp(running, page, inputs)
    else:
        {"html": html, "pdf": pdf, "links": links}[command](*rest)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (BookError, DataError) as error:
        sys.exit(str(error))
