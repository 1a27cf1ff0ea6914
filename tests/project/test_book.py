"""The book as a reader gets it. Tests on its pages need `make book` to have been run; the others do not."""

import http.server
import json
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cv2
import nbformat
import numpy as np
import pages as made
import pytest
import try_it
from scipy import ndimage

import book

ROOT = Path(__file__).parents[2]
PROSE = sorted((ROOT / "book").glob("*.md"))


# --- putting it together ---


@pytest.fixture
def page(tmp_path, monkeypatch):
    """An executed notebook with the stamp of one input."""
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("input.csv").write_text("1\n")
    cell = nbformat.v4.new_code_cell("1", metadata={"papermill": {"duration": 1}})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["papermill"] = {"duration": 2.5, "input_path": str(tmp_path)}
    nbformat.write(notebook, "running.ipynb")
    book.stamp(Path("running.ipynb"), Path("page.ipynb"), [Path("input.csv")], {"cpu": 1.5})
    return Path("page.ipynb")


def test_a_stamp_keeps_checksums_and_time_and_no_path_of_this_machine(page, tmp_path):
    notebook = nbformat.read(page, 4)
    assert (notebook.metadata["padim_ace"]["seconds"], notebook.metadata["padim_ace"]["cpu"]) == (2.5, 1.5)
    assert list(notebook.metadata["padim_ace"]["inputs"]) == ["input.csv"]
    assert str(tmp_path) not in page.read_text()
    book.check_stamp(page, notebook)


@pytest.mark.parametrize("change", [lambda path: path.write_text("2\n"), lambda path: path.unlink()])
def test_a_page_whose_input_changed_is_refused(page, change):
    change(Path("input.csv"))
    with pytest.raises(book.BookError, match=r"page.ipynb: expected input.csv as it was"):
        book.check_stamp(page, nbformat.read(page, 4))


def test_a_page_without_a_stamp_is_refused(page):
    with pytest.raises(book.BookError):
        book.check_stamp(page, nbformat.v4.new_notebook())


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("tables", "tables"),
        ("table_3", "table"),
        ("beyond_more", "beyond_more"),
        ("table_demo", "table_demo"),
        ("ledger", "ledger"),
        ("localisation_demo_sea", "figure_localisation"),
        ("prepare_mstar", "prepare"),
        ("score_mstar-resnet18", "score"),
    ],
)
def test_pages_know_the_notebook_that_made_them(name, source):
    assert made.source_of(name) == source and (ROOT / f"notebooks/{source}.py").is_file()


def test_a_page_takes_its_title_from_the_cell_that_puts_it_out():
    head = nbformat.v4.new_markdown_cell("# Tables\n\nwhat it reads")
    said = nbformat.v4.new_output("display_data", {"text/markdown": "(x)=\n# Table 3\n\n$\\Sigma$"})
    title = nbformat.v4.new_code_cell("…", metadata={"tags": ["title"]}, outputs=[said])
    notebook = nbformat.v4.new_notebook(cells=[head, title])
    made._name_page(notebook, "table_3")
    assert [cell.source for cell in notebook.cells] == ["(x)=\n# Table 3\n\n$\\Sigma$\n\nwhat it reads"]


def test_a_page_is_named_after_its_dataset_and_backbone():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Score\n\ntext")])
    made._name_page(notebook, "score_demo_sea-resnet18")
    assert notebook.cells[0].source == "# Score: simulated open sea, ResNet-18\n\ntext"


def test_progress_bars_do_not_reach_a_page():
    bar = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})
    kept = nbformat.v4.new_output("stream", name="stdout", text="kept")
    outputs = [bar, nbformat.v4.new_output("stream", name="stderr", text="50%"), kept]
    assert [output for output in outputs if not made._is_progress(output)] == [kept]


def stale():
    """Why the built book is not of the tree as it is now, in one line; empty if it is."""
    made = book.HTML / "made_from.json"
    if not made.is_file():
        return f"{book.HTML}: expected a book, found none; `make book`"
    before, now = json.loads(made.read_text()), book.made_from()
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            return f"{name}: expected it as it was when the book was built, found it changed; `make book`"
    return ""


def test_a_book_of_other_results_is_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "HTML", tmp_path / "html")
    monkeypatch.setattr(book, "ROOT", tmp_path)
    scores = tmp_path / "results/demo/scores.csv"
    scores.parent.mkdir(parents=True)
    scores.write_text("1\n")
    assert "expected a book, found none; `make book`" in stale()
    book.stamp_book()
    assert stale() == ""
    scores.write_text("2\n")
    assert "results/demo/scores.csv: expected it as it was" in stale() and "\n" not in stale()


def test_no_line_ends_between_a_number_and_its_spread_or_percent():
    assert made.unbroken("99.1 ± 0.4 and 5 % of 3 images") == "99.1\xa0±\xa00.4 and 5\xa0% of 3 images"


def test_launch_links_name_files_that_exist(monkeypatch):
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert made.launch_links("table") == {}
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/padim-ace")
    for path in (ROOT / "notebooks").glob("*.py"):
        links = made.launch_links(path.stem)
        if path.stem not in made.LIGHT:
            assert links == {}  # it would not run there
            continue
        # Binder makes *.ipynb from these sources (binder/postBuild), Pages has them in files/.
        assert links["Binder"].endswith(f"someone/padim-ace/HEAD?urlpath=lab/tree/{path.stem}.ipynb")
        assert links["Colab"].endswith(f"someone/padim-ace/blob/gh-pages/files/{path.stem}.ipynb")
    assert "jupytext --to ipynb" in (ROOT / "binder/postBuild").read_text()


def test_code_is_folded_once_in_a_section_and_figures_name_the_lines_that_made_them():
    head, cell = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [cell(code, metadata={"tags": ["hide-input"]}) for code in ("import x", "x.draw(all_of_it)", "y")]
    notebook = nbformat.v4.new_notebook(cells=[head("# A"), *cells[:2], head("words\n\n## B"), cells[2]])
    made._fold(notebook)
    assert [cell.metadata["tags"][-1] for cell in cells] == ["remove-input", "hide-input", "hide-input"]
    source = (ROOT / "notebooks/ledger.py").read_text()
    code = "scores = read_scores(results)\npaper = read_published(Path(published))"
    shown = made._with_origin('<figure class="drawn"></figure>', code, "ledger")
    first = int(re.search(r'href="files/ledger.html#L-(\d+)"', shown)[1])
    assert source.splitlines()[first - 1 : first + 1] == code.splitlines()
    assert f"lines {first} to {first + 1}" in shown and 'href="#where-the-numbers-come-from"' in shown


def test_a_notebook_on_colab_fetches_the_project_first(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/padim-ace")
    monkeypatch.setattr(made, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name in ("ledger", "score"):
        (tmp_path / f"notebooks/{name}.py").write_text("1\n2\n")
        nbformat.write(nbformat.v4.new_notebook(), tmp_path / f"notebooks/{name}.ipynb")
    made.offer(tmp_path / "files")
    (cell,) = nbformat.read(tmp_path / "files/ledger.ipynb", 4).cells
    assert "https://github.com/someone/padim-ace" in cell.source
    here = Path.cwd()
    exec(cell.source, {})  # does nothing elsewhere
    assert Path.cwd() == here and not nbformat.read(tmp_path / "files/score.ipynb", 4).cells
    assert 'id="L-2"' in (tmp_path / "files/ledger.html").read_text()


EXPECTED = ("whole_scene", "try_it")
"""Chapters that have their place, and are shown where they were made."""


def test_every_chapter_has_a_source():
    names = re.findall(r"- (?:file|glob): (\S+)", (ROOT / "book/_toc.yml").read_text())
    for name in names:
        known = (ROOT / "book" / f"{name}.md").is_file() or name.startswith(("api/", "made_", *EXPECTED))
        assert known or (ROOT / f"notebooks/{made.source_of(name.replace('*', 'x'))}.py").is_file(), name


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.stem)
def test_no_result_is_typed_in_the_prose(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    assert not re.findall(r"\b\d\d\.\d+ ?(?:±|%)|\d ± \d|AUROC of \d", text)


AMERICAN = r"\b(colors?|gray|center(ed|s)?|behavior|neighbors?|normaliz\w+|analyz\w+|optimiz\w+|labeled)\b"


@pytest.mark.parametrize(
    "path", [*PROSE, *sorted((ROOT / "notebooks").glob("*.py"))], ids=lambda path: path.stem
)
def test_the_prose_is_british(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    if path.suffix == ".py":
        text = "\n".join(re.findall("^# .*$", text, re.MULTILINE))
    assert not re.findall(AMERICAN, text, re.IGNORECASE)


def test_a_link_that_is_gone_is_told_from_one_that_answers(tmp_path, monkeypatch, capsys):
    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            code = int(self.path[1:4])
            if code:
                self.send_response(code)
                self.end_headers()  # for 000 the connection is closed without a word

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{site.server_port}"
        monkeypatch.setattr(book, "HTML", tmp_path)
        (tmp_path / "good.html").write_text(f'<a class="x" href="{at}/200?a=1&amp;b=2#part">there</a>')
        (tmp_path / "shy.html").write_text(f'<a href="{at}/403">refused to a program</a> <a href="in.html">')
        book.links("demo")
        assert capsys.readouterr().out.splitlines() == [
            f"   200  {at}/200?a=1&b=2  (good.html)",
            f"   403  {at}/403  (shy.html)",
        ]
        (tmp_path / "bad.html").write_text(f'<a href="{at}/404">gone</a> <a href="{at}/000">silent</a>')
        with pytest.raises(book.BookError, match="expected 4 addresses to answer, found 2"):
            book.links("demo")
        site.shutdown()


# --- its pages ---

STALE = stale()
PAGES = [p for p in sorted(book.HTML.rglob("*.html")) if "_static" not in p.parts and not STALE]
built = pytest.mark.skipif(bool(STALE), reason=STALE)


class Page(HTMLParser):
    """What a page links to, loads and names."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.heads, self.silent = [], [], set(), [], []
        self.in_article = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe", "source") and found.get("src"):
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(found["href"])
        self.in_article |= tag == "article"
        if re.fullmatch("h[1-6]", tag) and self.in_article:
            self.heads.append(int(tag[1]))
        if tag == "img" and "alt" not in found:
            self.silent.append(found.get("src"))
        if tag == "svg" and found.get("role") == "img" and not found.get("aria-label"):
            self.silent.append("svg")


@pytest.fixture(scope="module")
def pages():
    return {path: Page(path) for path in PAGES}


@built
def test_every_link_and_anchor_inside_the_book_exists(pages):
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if (
                not target.exists()
                or url.fragment
                and target.suffix == ".html"
                and unquote(url.fragment) not in pages[target].ids
            ):
                broken.append((path.name, link))
    assert not broken


@built
def test_nothing_that_a_page_loads_comes_from_elsewhere(pages):
    outside = [(path.name, load) for path, page in pages.items() for load in page.loads if "//" in load]
    assert not outside
    styles = "".join(path.read_text(encoding="utf-8") for path in book.HTML.rglob("*.css"))
    assert not re.findall(r"url\([\"']?(?:https?:)?//", styles)


@built
def test_headings_are_in_order(pages):
    wrong = {}
    for path, page in pages.items():
        steps = [b - a for a, b in zip(page.heads, page.heads[1:], strict=False)]
        if path.name not in ("genindex.html", "search.html", "py-modindex.html") and (
            page.heads.count(1) != 1 or page.heads[:1] != [1] or any(step > 1 for step in steps)
        ):
            wrong[path.name] = page.heads
    assert not wrong


@built
def test_every_picture_says_what_is_seen(pages):
    assert not {path.name: page.silent for path, page in pages.items() if page.silent}


NOTEBOOKS = {path.stem for path in (ROOT / "notebooks").glob("*.py")}


@built
def test_every_page_of_a_notebook_says_how_to_make_it_again_and_has_its_source(pages):
    found = {
        path: re.findall(r"make page PAGE=([\w-]+)<", path.read_text(encoding="utf-8")) for path in pages
    }
    found = {path: names for path, names in found.items() if names}
    assert {"table_1", "tables", "ledger", "deviations", "use_your_own"} <= {p.stem for p in found}
    for path, names in found.items():
        assert path.stem in {made._shown_on(name) for name in names}
        sources = {made.source_of(name) for name in names}
        offered = {f"files/{source}.{kind}" for source in sources for kind in ("ipynb", "html")}
        assert sources <= NOTEBOOKS and offered | {f"_sources/{path.stem}.ipynb"} <= set(pages[path].links)


TOP = set(re.findall(r"^      - file: (\S+)", (ROOT / "book/_toc.yml").read_text(), re.MULTILINE))
MAIN = {name for name in TOP if made.in_main_part(name)}


@built
@pytest.mark.parametrize("name", ["index", *sorted(MAIN)])
def test_no_table_of_the_main_part_is_long(name):
    """What is longer stands in an appendix, or folded."""
    text = (book.HTML / f"{name}.html").read_text(encoding="utf-8")
    text = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    rows = [body.count("<tr") for body in re.findall(r"<tbody>.*?</tbody>", text, re.DOTALL)]
    assert all(count <= made.LONG + (name == "deviations") for count in rows), rows  # D1 to D11 are eleven


def test_a_long_table_is_folded_in_the_main_part_only():
    rows = "<tr></tr>" * 12
    shown = f'<figure class="results-table"><div class="table-scroll">{rows}</div><p></p></figure>'
    folded = made._fold_long(shown)
    assert folded.startswith('<figure class="results-table"><details><summary>11 rows</summary><div')
    assert folded.endswith("</div></details><p></p></figure>")
    assert made._fold_long(shown.replace(rows, rows[:27])) == shown.replace(rows, rows[:27])
    assert made.in_main_part("beyond") and made.in_main_part("whole_scene")
    assert not made.in_main_part("ledger") and not made.in_main_part("beyond_more")


@built
def test_every_figure_and_table_of_results_names_the_lines_that_made_it():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r'<details class="provenance">.*?</details>', "", text, flags=re.DOTALL)
        if path.stem in TOP and "page-footer" in text:
            drawn = re.findall(r'<figure class="(?:drawn|results-table)">.*?</figure>', text, re.DOTALL)
            assert all('class="made-by"' in one and ".html#L-" in one for one in drawn), path.stem


PRINTED = [path for path in book.PDF.values() if path.is_file()]


@pytest.mark.skipif(len(PRINTED) < 2, reason="PDF: expected two, found none; `make pdf`")
def test_the_main_part_in_print_is_short_and_light():
    main, appendix = (re.findall(rb"/Type /Page\b", path.read_bytes()) for path in book.PDF.values())
    assert 20 < len(main) < 100 and len(appendix) > 20
    assert all(path.stat().st_size < 30e6 for path in PRINTED)


@built
@pytest.mark.parametrize(
    "name",
    [
        "tables",
        "table_1",
        "table_2",
        "table_4",
        "table_demo",
        "deviations",
        "beyond",
        "beyond_more",
        "ledger",
    ],
)
def test_a_page_of_results_ends_with_what_its_numbers_rest_on(name):
    text = (book.HTML / f"{name}.html").read_text(encoding="utf-8")
    last = text[text.rindex('<details class="provenance">') :]
    profile = "demo" if name == "table_demo" else "paper"
    runs = json.loads((ROOT / f"results/{profile}/provenance.json").read_text())["runs"]
    assert runs and all(re.search(f">{run}</th>", last) for run in runs)
    for run in runs.values():
        assert all(value["sha256"][:12] in last for value in run["inputs"].values())
        assert run["date"][:10] in last and run["device"] in last and f"{run['seconds']:.0f} s" in last
        assert all(run["sources"][name][:7] in last for name in ("commit", "sha256"))
    assert "torch 2" in last and 'class="page-footer"' in last


@built
def test_no_sentence_of_a_docstring_is_taken_for_a_type():
    """Napoleon reads what stands before a colon in an attribute's docstring as the attribute's type."""
    wrong = {}
    for path in (book.HTML / "api").glob("*.html"):
        types = re.findall(
            r"Type<span class=\"colon\">:</span></dt>\s*<dd[^>]*>(.*?)</dd>", path.read_text(), re.DOTALL
        )
        sentences = [
            text for text in (re.sub("<[^>]+>", "", found).strip() for found in types) if " " in text
        ]
        if sentences:
            wrong[path.name] = sentences
    assert not wrong


@built
@pytest.mark.parametrize("package", book.API)
def test_every_public_name_is_in_the_api_reference(pages, package):
    listed = pages[book.HTML / f"api/{package}.html"].ids
    named = {f"{module}.{name}" for module, names in book.public_names(package).items() for name in names}
    assert named and named <= listed


# --- in a browser ---

CHROMIUM = next(filter(None, map(shutil.which, book.BROWSERS)), None)
seen = pytest.mark.skipif(
    bool(STALE) or not CHROMIUM, reason=STALE or "Chromium: expected on this machine, found none; install it"
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
FLAGS += ["--disable-component-update", "--disable-sync"]
NARROW = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    server = book.serve(book.HTML)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        browser.address = f"http://127.0.0.1:{server.server_port}"
        yield browser
        browser.close()
    server.shutdown()


@pytest.fixture
def read(chromium):
    """Open a page of the book; what it asked for and said is in ``requests`` and ``said``."""
    opened = []

    def read(name, theme="light", **options):
        context = chromium.new_context(color_scheme=theme, **options)
        page = context.new_page()
        page.requests, page.said = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("response", lambda answer: page.said.append(answer.url) if answer.status >= 400 else None)
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on(
            "console", lambda line: page.said.append(line.text) if line.type in ("error", "warning") else None
        )
        page.goto(f"{chromium.address}/{name}.html", wait_until="networkidle")
        opened.append(context)
        return page

    yield read
    for context in opened:
        context.close()


LOOKED_AT = ["index", "method", "data", "tables", "beyond", "ledger", "rerun", "made_demo_sea", "search"]
LOOKED_AT += ["try_it"] * (book.HTML / "try_it.html").is_file()


@seen
@pytest.mark.parametrize("name", LOOKED_AT)
def test_reading_a_page_asks_nothing_of_the_network_and_the_console_is_quiet(read, chromium, name):
    page = read(name)
    assert page.requests and all(
        url.startswith((chromium.address, "data:", "blob:")) for url in page.requests
    )
    assert page.said == []


@seen
@pytest.mark.parametrize("name", [*LOOKED_AT, "genindex"])
def test_a_page_fits_a_phone(read, name):
    page = read(name, viewport=NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


@seen
def test_the_api_fits_a_phone(chromium):
    context = chromium.new_context(viewport=NARROW, java_script_enabled=False)
    page, wide = context.new_page(), {}
    for path in sorted((book.HTML / "api").glob("*.html")):
        page.goto(f"{chromium.address}/api/{path.name}")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > NARROW["width"]:
            wide[path.stem] = width
    context.close()
    assert not wide


@seen
@pytest.mark.parametrize(
    ("media", "width"), [("screen", 1300), ("print", 688)]
)  # A4 within make pdf's margins
@pytest.mark.parametrize(
    "name",
    [
        "tables",
        "table_1",
        "table_2",
        "table_4",
        "table_demo",
        "deviations",
        "beyond",
        "beyond_more",
        "ledger",
    ],
)
def test_tables_are_whole_on_a_laptop_and_in_print(read, name, media, width):
    page = read(name, viewport={"width": width, "height": 900})
    page.emulate_media(media=media)
    widths = page.evaluate(
        "[...document.querySelectorAll('.table-scroll')].map(box => [box.scrollWidth, box.clientWidth])"
    )
    assert widths and all(inside <= outside for inside, outside in widths), widths


@seen
def test_formulas_are_typeset(read):
    page = read("method")
    page.wait_for_selector("mjx-container[display=true]")
    assert page.locator("mjx-container").count() > 30
    assert page.locator("mjx-merror").count() == 0
    page.get_by_role("link", name="(2)").first.click()
    assert page.url.endswith("#equation-eq-ace")


@seen
def test_a_head_sorts_the_table_by_pointer_and_by_keyboard(read):
    page = read("ledger")
    head = page.locator("#T_ledger th", has_text="Here").first
    button = head.get_by_role("button")
    button.wait_for()

    def values():
        texts = page.locator("#T_ledger tbody tr > :nth-child(6)").all_inner_texts()
        return [float(text.split()[0]) if text != "–" else None for text in texts]

    before = values()
    numbers = sorted(value for value in before if value is not None)
    missing = [None] * before.count(None)
    assert numbers and missing and before != numbers + missing
    head.click()
    page.wait_for_selector("#T_ledger th[aria-sort=ascending]")
    assert values() == numbers + missing  # what was not run comes last, whichever way
    button.press("Enter")
    page.wait_for_selector("#T_ledger th[aria-sort=descending]")
    assert values() == numbers[::-1] + missing


@seen
def test_a_difference_sorts_by_its_sign(read):
    page = read("ledger")
    page.locator("#T_ledger th", has_text="Difference").first.click()
    page.wait_for_selector("#T_ledger th[aria-sort=ascending]")
    texts = page.locator("#T_ledger tbody tr > :nth-child(7)").all_inner_texts()
    signs = [text[0] for text in texts if text != "–"]
    assert signs == sorted(signs, key="−+".index) and len(set(signs)) == 2


@seen
def test_tables_are_whole_without_a_script(chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{chromium.address}/ledger.html")
    assert page.locator("#T_ledger tbody tr").count() == 42
    assert page.locator("a.csv").first.get_attribute("download") == "ledger.csv"
    context.close()


@seen
def test_a_figure_can_be_enlarged_and_closed_by_keyboard(read):
    page = read("method")
    page.locator("figure.drawn svg[role=img]").first.press("Enter")
    assert page.locator("dialog.zoom[open] svg").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog.zoom[open]").count() == 0


@seen
def test_search_finds_a_page(read):
    page = read("search")
    page.goto(page.url + "?q=Cholesky")
    page.wait_for_selector("ul.search li a")
    assert "Method" in page.locator("ul.search").inner_text()


@seen
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "name",
    [
        "index",
        "method",
        "data",
        "tables",
        "ledger",
        "beyond",
        "localisation_demo_sea",
        "made_demo_sea",
        "rerun",
        "references",
    ],
)
def test_axe_has_no_serious_complaint(read, name, theme):
    import axe_playwright_python

    page = read(name, theme)
    page.wait_for_timeout(300)
    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    serious = [
        (complaint["id"], complaint["help"], [node["html"][:160] for node in complaint["nodes"][:3]])
        for complaint in found
        if complaint["impact"] in ("serious", "critical")
    ]
    assert not serious, json.dumps(serious, indent=1)


# --- the chapter that runs the detector in the browser ---

TRIED = (book.HTML / "try_it.html").is_file()
tried = pytest.mark.skipif(not TRIED, reason="try_it.html: expected in the book, found none; build with npm")
MADE = book.HTML / "_static/try_it"


@pytest.fixture
def drop(read):
    """Open the chapter and drop a file on it; the page, its scores, and what it says."""

    def drop(name, content):
        page = read("try_it")
        data = page.evaluate_handle(
            "([name, bytes]) => { const data = new DataTransfer();"
            " data.items.add(new File([Uint8Array.from(bytes)], name)); return data; }",
            [name, list(content)],
        )
        page.dispatch_event("#try-it", "drop", {"dataTransfer": data})
        page.wait_for_selector("#try-it[aria-busy=false]", timeout=60_000)
        scores = page.evaluate("[...document.querySelector('#try-it').scores ?? []]")
        return page, np.array(scores).reshape(-1, 256), page.locator("#try-it .said").inner_text()

    return drop


@seen
@tried
def test_a_dropped_image_is_scored_as_torch_scores_it(drop, chromium):
    """An image of another size than the detector's, in colour, with a bright patch."""
    import torch

    from padim_ace import PadimAce

    image = (40 * np.random.default_rng(0).rayleigh(size=(200, 310, 3))).clip(0, 255).astype(np.uint8)
    image[90:100, 120:150] = (250, 240, 230)
    page, found, said = drop("mine.png", cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    assert re.match(r"mine.png: \d+ box", said) and found.shape == (256, 256)
    model = PadimAce("tf_efficientnet_lite0", pre_trained=False, preset="recommended").eval()
    model.model.load_state_dict(torch.load(next((ROOT / "build").glob("*/try_it/model.pt"))))
    batch = model.pre_processor.transform(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    expected = model.model(batch).anomaly_map[0, 0].numpy()
    assert np.abs(found - expected).max() < 1e-3 * expected.max()
    assert all(url.startswith((chromium.address, "data:", "blob:")) for url in page.requests)
    assert page.said == []


@seen
@tried
def test_boxes_are_the_parts_above_the_sliders_threshold(drop):
    told = json.loads((MADE / "try_it.json").read_text())
    page, scores, _ = drop("sample.png", (MADE / "sample4.png").read_bytes())
    slider, counts = page.locator("#try-it input[type=range]"), []
    for key in ("Home", "PageUp", "ArrowLeft", "End"):
        slider.press(key)
        threshold = told["thresholds"][int(slider.input_value())]
        counts.append(ndimage.label(scores > threshold)[1])
        assert re.search(r": (\d+) box", page.locator("#try-it .said").inner_text())[1] == str(counts[-1])
    assert len(set(counts)) > 1


@seen
@tried
def test_what_cannot_be_scored_is_said_in_words(drop):
    page, scores, said = drop("notes.txt", b"no image")
    assert "notes.txt: expected an image" in said and not len(scores) and page.said == []


@tried
def test_the_detector_in_the_browser_is_light():
    sizes = {path.name: path.stat().st_size for path in MADE.iterdir()}
    assert {"model.onnx", *try_it.RUNTIME} < set(sizes) and sum(sizes.values()) < 30e6
