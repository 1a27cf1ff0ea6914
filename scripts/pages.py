"""Pages of the book from executed notebooks: what is shown, folded and linked, and what lies beside them."""

from __future__ import annotations

import os
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import nbformat
import yaml
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from padim_ace.report import titles

ROOT = Path(__file__).resolve().parents[1]

LONG = 10
"""Rows of the longest table that the main part shows unfolded."""

LIGHT = ("table", "tables", "table_demo", "ledger", "beyond", "beyond_more", "classes")
"""Notebooks that only read results: they run in the environment of ``binder/``, without torch."""

MADE = ("prepare", "score", "baselines")
"""Notebooks that make data: those of one dataset share a page."""

COLAB = """\
# On Colab: fetch the project and what this page needs. Elsewhere this does nothing.
import os
import sys

if "google.colab" in sys.modules:
    os.system("git clone -q --depth 1 {url} project && pip install -q -r project/binder/requirements.txt")
    os.chdir("project")
    sys.path[:0] = [os.path.abspath("src"), os.getcwd()]
"""

LISTING = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><style>
.linenos {{ opacity: .7; padding-right: 1em }} pre {{ overflow-x: auto }} {light}
@media (prefers-color-scheme: dark) {{ {dark} }}</style></head>
<body><article><h1><code>{name}</code></h1><a href="{file}" download>download</a>{code}</article></body>
</html>
"""


def unbroken(text: str) -> str:
    """Text in which no line ends between a number and its ± or %."""
    return re.sub(r"(?<=\d) (?=[±%])|(?<=±) (?=\d)", "\N{NO-BREAK SPACE}", text)


def source_of(page: str) -> str:
    """The notebook that a page was made by: ``score_mstar-resnet18`` by ``score``."""
    names = {path.stem for path in (ROOT / "notebooks").glob("*.py")} | {"localisation"}
    name = max((name for name in names if page == name or page.startswith(f"{name}_")), key=len)
    return "figure_localisation" if name == "localisation" else name


def launch_links(name: str) -> dict[str, str]:
    """Where a notebook can be opened and run without installing anything, once the project is public.

    The repository's name is given by the machine that publishes the book (GITHUB_REPOSITORY); else there are
    no links, nor to a notebook that needs more than results.
    """
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    if not repository or name not in LIGHT:
        return {}
    return {
        "Binder": f"https://mybinder.org/v2/gh/{repository}/HEAD?urlpath=lab/tree/{name}.ipynb",
        "Colab": f"https://colab.research.google.com/github/{repository}/blob/gh-pages/files/{name}.ipynb",
    }


def _is_progress(output: Any) -> bool:
    """Whether an output is a progress bar, as text or as a widget (whose script is of another host)."""
    widget = "application/vnd.jupyter.widget-view+json" in output.get("data", {})
    return widget or output.get("name") == "stderr"


def finish(notebook: Any, page: str, book: Path) -> None:
    """Drop progress bars, fold code, keep the front page's figures, and say how to make the page again."""
    notebook.metadata.pop("widgets", None)
    name = source_of(page)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cell.source = unbroken(cell.source)
            continue
        cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        for output in cell.outputs:
            for kind in {"text/html", "text/markdown"} & set(output.get("data", {})):
                output["data"][kind] = unbroken(output["data"][kind])
            if "text/html" in output.get("data", {}):
                shown = _with_origin(output["data"]["text/html"], cell.source, name)
                output["data"]["text/html"] = _fold_long(shown) if in_main_part(page) else shown
        tags = cell.metadata.setdefault("tags", [])
        if "injected-parameters" in tags:  # what the page was made with, in place of the defaults
            tags.append("hide-input")
        elif "parameters" in tags:
            tags.append("remove-cell")
        for tag in tags:
            if tag.startswith("figure-"):
                (output,) = cell.outputs
                path = book / f"figures/{tag.removeprefix('figure-')}.html"
                path.write_text(output["data"]["text/html"], encoding="utf-8")
    _fold(notebook)
    if page != name:
        _name_page(notebook, page)
    stamp = notebook.metadata["padim_ace"]
    links = [
        f'<a href="_sources/{_shown_on(page)}.ipynb" download>as executed</a>',
        f'<a href="files/{name}.ipynb" download>notebook</a>',
        f'<a href="files/{name}.html">source</a>',
    ]
    links += [f'<a href="{url}">{where}</a>' for where, url in launch_links(name).items()]
    took = f"It took {stamp['seconds']:.0f} s. " if stamp["seconds"] else ""
    notebook.cells.append(
        nbformat.v4.new_markdown_cell(
            f'<div class="page-footer">Made by <code>notebooks/{name}.py</code> ({", ".join(links)}). {took}'
            f"Make it again alone: <code>make page PAGE={page}</code>.</div>",
        )
    )


def _with_origin(shown: str, code: str, name: str) -> str:
    """A figure or table with a link to the lines that made it, and to what its numbers rest on."""
    if 'class="provenance"' in shown:
        return shown
    text = (ROOT / f"notebooks/{name}.py").read_text(encoding="utf-8")
    first = text[: text.find(code)].count("\n") + 1
    last = first + code.count("\n")
    lines = f'<a href="files/{name}.html#L-{first}">lines {first} to {last}</a> of {name}.py'
    if "# ## Where the numbers come from" in text:
        lines += ', <a href="#where-the-numbers-come-from">commit and seeds</a>'
    if 'class="made-by">' in shown:
        return shown.replace('class="made-by">', f'class="made-by">Made by {lines}. Data: ')
    return shown.replace("</figure>", f'<p class="made-by">Made by {lines}.</p></figure>')


def in_main_part(page: str) -> bool:
    """Whether a page belongs to the part that is read from front to back."""
    parts = yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))["parts"]
    entries = [e for part in parts if not part["caption"].startswith("Appendix") for e in part["chapters"]]
    return any(fnmatch(page, entry.get("file") or entry["glob"]) for entry in entries)


def _fold_long(shown: str) -> str:
    """A table of more than ten rows folded away."""
    rows = shown.count("<tr") - 1
    if rows <= LONG or '<div class="table-scroll"' not in shown or 'class="provenance"' in shown:
        return shown
    before, div, after = shown.partition('<div class="table-scroll"')
    after = after.replace("</div>", "</div></details>", 1)
    return f"{before}<details><summary>{rows} rows</summary>{div}{after}"


def _fold(notebook: Any) -> None:
    """Leave one folded cell of code in a section, its longest; the links below figures lead to all lines."""
    section: list[Any] = []
    for cell in [*notebook.cells, nbformat.v4.new_markdown_cell("# ")]:
        if cell.cell_type == "markdown" and re.search("^#+ ", cell.source, re.MULTILINE):
            longest = max(section, key=lambda cell: len(cell.source), default=None)
            for other in section:
                if other is not longest:
                    other.metadata.tags.append("remove-input")
            section = []
        elif "hide-input" in cell.metadata.get("tags", []):
            section.append(cell)


def _shown_on(page: str) -> str:
    """The page that an executed notebook stands on: its own, or that of what made a dataset's numbers."""
    made = source_of(page) in MADE
    return f"made_{page.partition('_')[2].partition('-')[0]}" if made else page


def join_made(book: Path) -> None:
    """Put the notebooks that made the numbers of a dataset on one page."""
    parts: dict[str, list[Path]] = {}
    for name in MADE:
        for path in sorted(book.glob(f"{name}_*.ipynb")):
            parts.setdefault(_shown_on(path.stem), []).append(path)
    for page, paths in parts.items():
        title = titles.dataset_title(page.removeprefix("made_"))
        cells = [nbformat.v4.new_markdown_cell(f"# How the numbers were made: {title}")]
        for path in paths:
            notebook = nbformat.read(path, as_version=4)
            for cell in notebook.cells:
                cell["id"] = f"{path.stem}-{len(cells)}"[-64:]
                if cell.cell_type == "markdown":
                    cell.source = re.sub("^(#+ )", r"#\1", cell.source, flags=re.MULTILINE)
                cells.append(cell)
            path.unlink()
        notebook.cells = cells
        nbformat.write(notebook, book / f"{page}.ipynb")


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


def offer(folder: Path) -> None:
    """Write what the pages offer: the notebooks as source, as a listing with numbers, and to be run."""
    folder.mkdir()
    light, dark = (
        HtmlFormatter(style=f"a11y-high-contrast-{theme}").get_style_defs() for theme in ("light", "dark")
    )
    lines = HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True)
    repository = os.environ.get("GITHUB_REPOSITORY", "")
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        shutil.copy(path, folder)
        code = highlight(path.read_text(encoding="utf-8"), PythonLexer(stripnl=False), lines)
        about = {"name": f"notebooks/{path.name}", "file": path.name, "light": light, "dark": dark}
        (folder / f"{path.stem}.html").write_text(LISTING.format(code=code, **about), encoding="utf-8")
        if path.with_suffix(".ipynb").is_file():
            notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
            if repository and path.stem in LIGHT:
                fetch = COLAB.format(url=f"https://github.com/{repository}")
                notebook.cells.insert(0, nbformat.v4.new_code_cell(fetch))
            nbformat.write(notebook, folder / f"{path.stem}.ipynb")
