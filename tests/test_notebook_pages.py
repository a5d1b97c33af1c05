"""The pages made of the notebooks: those of the present notebooks, and of nobody's machine."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(f.stem for f in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def script():
    return load_script("docs/notebooks.py")


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_page_is_that_of_the_notebook(name):
    """Else make it again: python docs/notebooks.py DATA."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert re.findall(r"```python\n(.*?)\n```", page(name), re.S) == code
    rest = re.sub(r"```python\n.*?\n```", "", page(name), flags=re.S)
    at = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            at = rest.index(cell.source, at)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_cells_show_is_on_the_page(name, script):
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    alts = [cell.metadata.alt for cell in notebook.cells if "alt" in cell.metadata]
    shown = re.findall(r"!\[(.*?)\]\((\S+?)\)", page(name))
    assert [alt for alt, _ in shown] == alts
    assert all(len(alt.split()) > 8 for alt in alts)
    files = {f.name for f in PAGES.glob(f"{name}_*")}
    assert files == {file for _, file in shown}
    assert all(1000 < (PAGES / file).stat().st_size <= script.MOST_BYTES for file in files)
    assert page(name).count("<table>") >= 3


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_page_holds_no_path_of_a_machine_and_no_colours_of_a_terminal(name):
    assert not re.search(r"/(tmp|work|home|root|Users|usr)/|\x1b|\b\d\d:\d\d:\d\d\b", page(name))


@pytest.mark.parametrize(
    "name", ["README.md", "docs/start.md", *(f"notebooks/{name}.ipynb" for name in NOTEBOOKS)]
)
def test_whoever_is_told_to_start_jupyter_is_told_how_it_is_installed(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert ".venv/bin/jupyter lab" in text
    if "jupyterlab==" not in (ROOT / "requirements.lock").read_text(encoding="utf-8"):
        assert ".venv/bin/uv pip install --python .venv jupyterlab" in text


def executed(*outputs, **metadata):
    cell = new_code_cell("show()", outputs=list(outputs), metadata=metadata)
    return new_notebook(cells=[new_markdown_cell("# Title"), cell])


def shown(data):
    return new_output("display_data", data=data)


def test_outputs_become_text_tables_and_pictures(script):
    html = '<div><style>x</style><table border="1" class="dataframe"><tr style="y">'
    html += '<th rowspan="2" valign="top">a</th></tr></table></div>'
    made = script.page_of(
        executed(
            new_output("stream", name="stdout", text="at /made/up/data/report.html\n"),
            new_output("stream", name="stderr", text="a warning"),
            shown({"text/plain": "\x1b[1m{'a': 1}\x1b[0m", "text/html": "<pre>{'a': 1}</pre>"}),
            shown({"text/plain": "", "text/html": "<pre>a line of a log</pre>"}),
            shown({"text/plain": "a", "text/html": html}),
            shown({"text/plain": "<SVG>", "image/svg+xml": "<svg/>"}),
            alt="what is on it",
        ),
        "page",
        hidden="/made/up",
    )
    assert made["page_1.svg"] == b"<svg/>"
    assert made["page.md"].decode().split("\n\n") == [
        "# Title",
        "```python\nshow()\n```",
        "```text\nat data/report.html\n```",
        "```text\n{'a': 1}\n```",
        '<table><tr><th rowspan="2" valign="top">a</th></tr></table>',
        "![what is on it](page_1.svg)\n",
    ]


def test_a_picture_without_words_and_an_output_that_needs_a_script_are_refused(script):
    with pytest.raises(ValueError, match="picture without words"):
        script.page_of(executed(shown({"image/svg+xml": "<svg/>"})), "page")
    with pytest.raises(ValueError, match=r"application/vnd\.plotly.*no scripts"):
        script.page_of(executed(shown({"application/vnd.plotly.v1+json": {}})), "page")


def test_a_folder_without_a_study_is_named(script, tmp_path):
    with pytest.raises(SystemExit, match=f"{tmp_path}: no finished study"):
        script.main(tmp_path)
