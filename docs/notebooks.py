"""Make docs/notebooks/*.md from notebooks/*.ipynb: ``python docs/notebooks.py [DATA]``.

Each notebook is executed against a finished default study, whose data folder is ``DATA``
(``data``), and becomes a page with its code, tables and pictures. Pages are kept in git, so that
building the site needs no study; ``tests/test_notebook_pages.py`` sees whether they are those of
the notebooks.
"""

import io
import re
import shutil
import sys
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = Path(__file__).parent / "notebooks"

#: Pictures are fetched with every page.
MOST_BYTES = 200_000

#: Forms of pictures, and the ends of their files.
PICTURES = {"image/svg+xml": "svg", "image/png": "png"}


def page_of(notebook: Any, name: str, hidden: str = "") -> dict[str, bytes]:
    """Return the page of an executed notebook, and the files of its pictures.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        A cell with a picture says in its metadata what it shows (``alt``).
    name : str
        Of the page, without ``.md``; pictures are called ``{name}_{number}``.
    hidden : str
        Folder whose name is left out of what cells print.

    Returns
    -------
    dict of str to bytes
        Content by name.

    Raises
    ------
    ValueError
        A picture has no words, or an output has no form that is shown.
    """
    files: dict[str, bytes] = {}
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            picture = next((form for form in PICTURES if form in data), None)
            if output.output_type == "stream":
                parts += [_text(output.text, hidden)] if output.name == "stdout" else []
            elif picture:
                if "alt" not in cell.metadata:
                    raise ValueError(
                        f"{name}: cell {cell.source!r} has a picture without words; expected "
                        "'alt' in the metadata of the cell"
                    )
                file = f"{name}_{len(files) + 1}.{PICTURES[picture]}"
                content = data[picture]
                files[file] = content.encode() if "svg" in picture else _small(b64decode(content))
                parts.append(f"![{cell.metadata.alt}]({file})")
            elif "<table" in data.get("text/html", ""):
                parts.append(_table(data["text/html"]))
            elif set(data) <= {"text/html", "text/plain"} and "text/plain" in data:
                parts += [_text(data["text/plain"], hidden)] if data["text/plain"].strip() else []
            else:
                raise ValueError(
                    f"{name}: cell {cell.source!r} puts out {sorted(data)}; expected SVG, PNG, a "
                    "table or text: a page has no scripts"
                )
    return {f"{name}.md": ("\n\n".join(parts) + "\n").encode(), **files}


def project_with(data: Path, folder: Path) -> Path:
    """Make a copy of the project in a folder, with the data of a finished study; return it."""
    for name in ("conf", "notebooks"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "src").mkdir()
    (folder / "data").symlink_to(data, target_is_directory=True)
    return folder


# --------------------------------------------------------------------------- inside
def _small(png: bytes) -> bytes:
    """Return a picture in few colours: noise makes PNG large."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(32, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _text(text: str, hidden: str) -> str:
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)  # colours of a terminal
    if hidden:
        plain = plain.replace(f"{hidden}/", "")
    return f"```text\n{plain.strip()}\n```"


def _table(html: str) -> str:
    """Return the table of a data frame without the looks that pandas gives it."""
    plain = re.sub(r' (?:border|class|style|halign)="[^"]*"', "", html[html.index("<table") :])
    return re.sub(r"\n\s*", "\n", plain.partition("</table>")[0]) + "</table>"


def main(data: Path) -> None:
    """Write the pages of all notebooks."""
    sys.path.insert(0, str(ROOT))
    from tests.notebook import run_notebook

    if not (data / "08_reporting" / "report.html").exists():
        raise SystemExit(f"{data}: no finished study")
    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            project = project_with(data.resolve(), Path(folder).resolve())
            executed = run_notebook(project / "notebooks" / source.name, "local")
            files = page_of(executed, source.stem, hidden=str(project))
        for name, content in files.items():
            if len(content) > MOST_BYTES:
                raise SystemExit(f"{name} has {len(content)} bytes, more than {MOST_BYTES}")
        PAGES.mkdir(exist_ok=True)
        for old in PAGES.glob(f"{source.stem}*"):
            old.unlink()
        for name, content in files.items():
            (PAGES / name).write_bytes(content)
            sys.stdout.write(f"{name}: {len(content)} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data")
