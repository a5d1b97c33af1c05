import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from tests import synthetic_study as synthetic

from temshift.config.curation import CurationParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.reporting import ReportingParameters
from temshift.pipelines import evaluation, generalization_reporting
from temshift.study.tables import findings_table

CONF = Path(__file__).parents[2] / "conf" / "base"


@pytest.fixture
def pipeline(monkeypatch):
    """Evaluation and report."""
    for part in (evaluation, generalization_reporting):
        monkeypatch.setattr(part.pipeline, "study_plan", synthetic.plan)
    module = generalization_reporting.pipeline
    monkeypatch.setattr(module, "project_parameters", lambda: synthetic.PARAMETERS)
    return evaluation.create_pipeline() + generalization_reporting.create_pipeline()


def project_catalog(folder: Path) -> DataCatalog:
    """The project's own catalog, its files below ``folder``."""
    conf = folder / "conf" / "base"
    conf.mkdir(parents=True)
    for part in ("evaluation", "generalization_reporting"):
        shutil.copy(CONF / f"catalog_{part}.yml", conf)
    (conf / "globals.yml").write_text(f"data: {folder / 'data'}\n")
    loader = OmegaConfigLoader(str(folder / "conf"), base_env="base", default_run_env="base")
    return DataCatalog.from_config(loader["catalog"])


def given(catalog: DataCatalog, results: pd.DataFrame) -> None:
    """Put into the catalog what earlier pipelines would have."""
    plan = synthetic.plan()
    for network in plan.rows:
        catalog[f"{network}.results"].save(results[results["network"] == network])
        catalog[f"{network}.examples"].save(synthetic.network_examples(network, results))
        catalog[f"{network}.history"] = MemoryDataset(synthetic.network_history(network))
    for split in plan.used_splits:
        catalog[f"{split}.micrographs"] = MemoryDataset(synthetic.micrographs_table(split))
        catalog[f"{split}.fingerprint"] = MemoryDataset(synthetic.split_fingerprint(split))
    catalog["data_curation.reporting.integrity"] = MemoryDataset(findings_table([]))
    removed = {"studies": {"of_base": None}}  # as an environment removes what it inherits
    for block, value in synthetic.PARAMETERS.items():
        catalog[f"params:{block}"] = MemoryDataset({**value, **removed.get(block, {})})
    catalog["data_curation.reporting.integrity"] = MemoryDataset(findings_table([]))
    catalog["params:curation"] = MemoryDataset(CurationParameters())
    catalog["params:modelling"] = MemoryDataset(
        ModellingParameters(**synthetic.PARAMETERS["modelling"])
    )
    catalog["params:reporting"] = MemoryDataset(
        ReportingParameters(**synthetic.PARAMETERS["reporting"])
    )


def test_what_belongs_to_no_network_is_in_no_namespace(pipeline):
    everything = {n.name for n in pipeline.nodes if n.namespace is None}
    assert everything == {
        "collect_results",
        "collect_histories",
        "compare",
        "explain",
        "draw_dose_matrix",
        "draw_material_matrix",
        "draw_gaps",
        "draw_histories",
        "draw_for_print",
        "write_report",
    }


def test_from_results_to_the_report(pipeline, tmp_path):
    catalog = project_catalog(tmp_path)
    results = synthetic.results_table()
    given(catalog, results)
    after = pipeline.only_nodes(*(n.name for n in pipeline.nodes if n.namespace is None))
    kept = {name: catalog.get(name) for name in after.all_outputs()}
    assert not [name for name, dataset in kept.items() if isinstance(dataset, MemoryDataset)]
    SequentialRunner().run(after, catalog)

    reporting = tmp_path / "data" / "08_reporting"
    assert {f.name for f in reporting.glob("*.csv")} == {
        f"{name}.csv"
        for name in (
            *("matrix", "gaps", "gains", "remedies", "transfer", "confounds", "splits"),
            *("fingerprints", "distances", "explanation"),
        )
    }
    printed = ("overview", "dose_matrix", "dose_forest", "material_matrix", "material_forest")
    assert {f.name for f in (reporting / "figures").iterdir()} == {
        *(f"{name}.json" for name in ("dose_matrix", "material_matrix", "gaps", "histories")),
        *(f"{n}_{mm}mm.{form}" for n in printed for mm in (85, 170) for form in ("svg", "pdf")),
    }
    assert "loses 0.3" in (reporting / "report.html").read_text()
    assert json.loads((reporting / "results.json").read_text())["findings"]
    collected = catalog["evaluation.model_output.results"].load()
    pd.testing.assert_frame_equal(
        collected.sort_values(["network", "test_split", "micrograph_id"], ignore_index=True),
        results.sort_values(["network", "test_split", "micrograph_id"], ignore_index=True),
    )
    for name, dataset in kept.items():  # what Kedro-Viz shows
        assert dataset.preview(), name


def test_the_same_results_give_the_same_files(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795662000")  # else the page says when it was written
    after = pipeline.only_nodes(*(n.name for n in pipeline.nodes if n.namespace is None))
    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        catalog = project_catalog(folder)
        given(catalog, synthetic.results_table())
        SequentialRunner().run(after, catalog)
        files = sorted(f for f in (folder / "data").rglob("*") if f.is_file())
        written.append({str(f.relative_to(folder)): f.read_bytes() for f in files})
    assert written[0].keys() == written[1].keys()
    assert [name for name in written[0] if written[0][name] != written[1][name]] == []


def test_the_figure_of_gaps_has_the_rows_of_the_reports_chart():
    from temshift.reporting.figures import gaps_figure

    results = pd.concat(
        [synthetic.results_table(), synthetic.results_table(protocol="published")],
        ignore_index=True,
    )
    content = synthetic.report_content(results)
    figure = gaps_figure(content)
    drawn = sum(len(trace.y) for trace in figure.data)
    assert drawn == sum(len(content.study_gaps(study)) for study in content.plan.studies)
    assert drawn < len(content.gaps)
