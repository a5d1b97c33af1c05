"""The notebook explores a finished study."""

import pytest
from tests.notebook import run_notebook

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("smoke")]


def test_notebook_explores_the_smoke_study(smoke):
    notebook = run_notebook(smoke.folder / "notebooks" / "explore_study.ipynb", "smoke")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [set(o.get("data", {})) for cell in code for o in cell.get("outputs", [])]
    shown = set().union(*kinds)
    assert {"image/png", "application/vnd.plotly.v1+json", "text/html"} <= shown
    text = "".join(o.get("text", "") for o in code[-1].outputs)
    assert text.strip().endswith("08_reporting/report.html")
