"""What a change of the real sources, parameters and packages repeats, without running anything.

The configuration of the smoke study and the sources are copied; small files stand for all data.
"""

import ast
import shutil
import time
from pathlib import Path

import pytest
import yaml
from kedro.framework.project import pipelines as project_pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

import temshift
from temshift.catalog.content import content_paths
from temshift.catalog.provenance import ProvenanceStore
from temshift.pipeline_registry import DEFAULT, register_pipelines
from temshift.pipelines.generalization_reporting.pipeline import STUDY_BLOCKS
from temshift.runner import Freshness, code
from temshift.runner.code import Code, package_version

ROOT = Path(__file__).parents[2]


class Study:
    """A copy of the smoke study in which every node counts as run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "conf", folder / "conf")
        shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")
        self.source = folder / "src" / "temshift"
        shutil.copytree(
            Path(temshift.__file__).parent,
            self.source,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        self.records = ProvenanceStore(folder / ".provenance")
        self.pipeline, self.catalog = self.open()
        self.code = Code({"temshift": self.source})  # as long as no source is changed
        for name in self.pipeline.datasets():
            for path in self.paths(name):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)
        freshness = Freshness(self.pipeline, self.catalog, self.records)  # of the real sources
        for node in self.pipeline.nodes:
            assert freshness.why(node) is not None
            freshness.record(node)

    def open(self, *asked_for: str):
        """Return pipeline and catalog as a run of some pipelines, or of all, gets them."""
        project_pipelines.set_requested(list(asked_for) or None)  # these two as a session does
        with KedroSession.create(project_path=self.folder, env="smoke") as session:
            context = session.load_context()
            context._pipelines_to_validate = list(asked_for) or None
            catalog = context.catalog
            pipelines = register_pipelines()
        names = asked_for or DEFAULT
        pipeline = sum((pipelines[name] for name in names), start=pipelines[names[0]])
        for name in pipeline.datasets():
            catalog.get(name, fallback_to_runtime_pattern=True)
        return pipeline, catalog

    def paths(self, dataset: str) -> list[Path]:
        return [] if "params" in dataset else content_paths(self.catalog.get(dataset))

    def why(self, code: Code | None = None, **options) -> dict[str, str]:
        """Return why nodes are to be run, by their names."""
        code = code or self.code
        freshness = Freshness(self.pipeline, self.catalog, self.records, code=code, **options)
        reasons = {node.name: freshness.why(node) for node in self.pipeline.nodes}
        return {name: why for name, why in reasons.items() if why is not None}

    def after(self, change, *files: str) -> dict[str, str]:
        """Return the reasons after a change of source files, and change them back."""
        before = {name: (self.source / name).read_text() for name in files}
        try:
            for name, text in before.items():
                (self.source / name).write_text(change(text))
            return self.why(Code({"temshift": self.source}))
        finally:
            for name, text in before.items():
                (self.source / name).write_text(text)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    patch = pytest.MonkeyPatch()
    patch.delenv("KEDRO_ENV", raising=False)
    patch.chdir(folder)
    shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")
    bootstrap_project(ROOT)
    yield Study(folder)
    patch.undo()


def in_every_function(text: str) -> str:
    """Put a statement that does nothing into each function."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body.append(ast.parse("assert True").body[0])
    return ast.unparse(tree)


def short(names) -> set[str]:
    return {name.rpartition(".")[2] for name in names}


def test_nothing_is_repeated_where_nothing_changed_wherever_the_sources_lie(study):
    assert study.why() == {}


@pytest.mark.parametrize("part", ["generalization_reporting", "evaluation", "simulation"])
def test_a_part_of_the_study_repeats_nothing_after_the_whole(study, part):
    assert changed_parameters(study, part) == {}


def test_a_changed_comment_or_docstring_anywhere_repeats_nothing(study):
    def comments(text):
        lines = [f"{t}  # changed" if t.startswith("def ") else t for t in text.splitlines()]
        return "# new\n" + "\n".join(lines) + "\n\n# the end\n"

    def docstrings(text):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                match node.body:
                    case [ast.Expr(value=ast.Constant(value=str(old)) as constant), *_]:
                        constant.value = f"Changed. {old}"
        return ast.unparse(tree)

    files = [str(p.relative_to(study.source)) for p in study.source.rglob("*.py")]
    assert len(files) > 60
    assert study.after(comments, *files) == {}
    assert study.after(docstrings, *files) == {}


def test_a_changed_line_of_the_style_sheet_repeats_the_report_alone(study):
    why = study.after(lambda text: text + "\np { color: red; }\n", "reporting/report.css")
    assert why == {
        "generalization_reporting.write_report": "code of temshift/reporting/report.css changed"
    }


def test_changed_flat_fielding_repeats_preprocessing_but_no_simulation(study):
    why = study.after(in_every_function, "microscopy/flat_field.py")
    splits = {"high_dose", "large_pixels", "low_dose"}
    assert set(why) == {f"preprocessing.{split}.preprocess" for split in splits}
    assert set(why.values()) == {"code of temshift.microscopy.flat_field changed"}


def test_other_patches_repeat_what_reads_them(study):
    (path,) = study.paths("low_dose.patches")
    path.write_text("others")
    why = study.why()
    path.write_text("low_dose.patches")
    assert why.pop("preprocessing.low_dose.preprocess") == "output low_dose.patches was changed"
    assert {
        "modelling.low_dose.train",
        "preprocessing.low_dose.fingerprint",
        "evaluation.low_dose.evaluate",
    } <= set(why)
    assert set(why.values()) == {"input low_dose.patches changed"}
    assert not {"modelling.high_dose_noise.train", "simulation.simulate_au_2nm"} & set(why)


def test_a_changed_downloader_repeats_nothing_of_a_study_without_one(study):
    assert study.after(in_every_function, "catalog/downloads.py", "catalog/published.py") == {}


@pytest.mark.parametrize(
    ("changed", "repeated"),
    [
        ("microscopy/multislice.py", {"simulate_au_2nm", "acquire_micrographs"}),
        ("learning/training.py", {"train"}),
        ("learning/augmentation.py", {"train"}),
        ("reporting/svg.py", {"draw_for_print", "write_report"}),
        ("reporting/printed.py", {"draw_for_print"}),
        ("microscopy/fingerprints.py", {"fingerprint", "explain"}),
        ("catalog/networks.py", {"train", "evaluate"}),
        ("catalog/exit_waves.py", {"simulate_au_2nm", "acquire_micrographs"}),
        ("context.py", set()),
        ("hooks.py", set()),
        ("runner/incremental.py", set()),
    ],
)
def test_a_changed_module_repeats_what_uses_it(study, changed, repeated):
    found = short(study.after(in_every_function, changed))
    assert found <= repeated
    assert bool(found) == bool(repeated)


def test_a_new_model_of_parameters_repeats_nothing(study):
    model = "\n\nclass DeploymentParameters(Strict):\n    threshold: float = 0.5\n"
    files = [f"config/{name}.py" for name in ("modelling", "reporting", "preprocessing")]
    assert study.after(lambda text: text + model, *files) == {}


def test_a_new_block_of_parameters_repeats_nothing(study):
    path = study.folder / "conf" / "smoke" / "parameters_others.yml"
    path.write_text(yaml.safe_dump({"data_curation": {"threshold": 0.5}}))
    assert changed_parameters(study) == {}
    path.write_text(yaml.safe_dump({"calibration": {"summary": "another"}}))
    (study.folder / "conf" / "smoke" / "parameters_simulation.yml").unlink()
    assert "generalization_reporting.write_report" in changed_parameters(study)
    path.unlink()
    shutil.copy(ROOT / "conf" / "smoke" / "parameters_simulation.yml", path.parent)


def changed_parameters(study, *asked_for: str) -> dict[str, str]:
    before = study.pipeline, study.catalog
    study.pipeline, study.catalog = study.open(*asked_for)
    try:
        return study.why()
    finally:
        study.pipeline, study.catalog = before


def test_a_changed_parameter_is_told_with_both_values(study):
    path = study.folder / "conf" / "smoke" / "parameters_modelling.yml"
    text = path.read_text()
    path.write_text(text.replace("steps: 8", "steps: 9"))
    why = changed_parameters(study)
    path.write_text(text)
    assert why["modelling.low_dose.train"] == "parameter modelling.training.steps changed (8 -> 9)"
    assert "simulation.simulate_au_2nm" not in why


def test_a_default_that_is_written_down_repeats_no_training(study):
    path = study.folder / "conf" / "smoke" / "parameters_modelling.yml"
    parameters = yaml.safe_load(path.read_text())
    parameters["modelling"]["augmentation"] = {"contrast": None}
    text = path.read_text()
    path.write_text(yaml.safe_dump(parameters, sort_keys=False))
    why = changed_parameters(study)
    path.write_text(text)
    assert why == {}


def test_another_version_of_a_package_repeats_what_uses_it(study):
    def with_new(package):
        return study.why(versions=lambda p: "99" if p == package else package_version(p))

    why = with_new("torch")
    assert {"train", "evaluate"} <= short(why)
    assert not {"preprocess", "simulate_au_2nm", "compare"} & short(why)
    assert why["modelling.low_dose.train"] == f"package torch {package_version('torch')} -> 99"
    assert short(with_new("abtem")) == {"simulate_au_2nm"}
    assert short(with_new("plotly")) <= {
        *("draw_gaps", "draw_histories", "draw_dose_matrix", "draw_magnification_matrix"),
    }
    assert with_new("kedro") == with_new("pydantic") == {}


def test_every_block_that_makes_the_study_stands_in_its_report(study):
    read = {
        name.removeprefix("params:").partition(".")[0]
        for name in study.pipeline.datasets()
        if name.startswith("params:")
    }
    assert read <= set(STUDY_BLOCKS)


def test_asking_takes_no_time(study):
    code._parsed.cache_clear()
    started = time.process_time()
    study.why(Code({"temshift": study.source}))
    assert time.process_time() - started < 3, "measured 0.4 s on a quiet machine"
