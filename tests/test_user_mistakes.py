"""A hundred mistakes of new users: none passes in silence, none ends in somebody else's words."""

import copy
import datetime
import errno
import io
import math
import sqlite3
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from kedro.config import OmegaConfigLoader
from PIL import Image

from temshift import context
from temshift.catalog.labelled import LabelledStore
from temshift.catalog.metadata_table import MetadataTableDataset, read_metadata_table
from temshift.catalog.micrographs import MicrographReadError, MicrographStore
from temshift.cli import Told
from temshift.config.base import Strict
from temshift.config.check import check_parameters
from temshift.config.curation import CurationParameters
from temshift.config.errors import PATTERNS, UserError
from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.splits import SplitParameters
from temshift.context import OrderedConfigLoader
from temshift.learning.checks import check_architectures
from temshift.mistakes import _of_text, as_user_error, environment_exists
from temshift.settings import CONFIG_LOADER_ARGS
from temshift.study.integrity import accept, inspect_micrographs, report_integrity
from temshift.study.quality import Patches
from temshift.study.tables import standardise_table

ROOT = Path(__file__).parents[1]
FOREIGN = (
    "pydantic",
    "pandas",
    "Traceback",
    "input_type",
    "extra_forbidden",
    "kedro.",
    "omegaconf",
)


def three_lines(error) -> str:
    """Check the form of an error; return its text."""
    told = as_user_error(error)
    text = str(told)
    lines = text.splitlines()
    assert lines[-3:] == [told.what, told.found, told.remedy]
    assert all(lines[-3:]), "an empty line"
    assert not [word for word in FOREIGN if word.lower() in text.lower()], text
    assert len(set(lines)) == len(lines), "a line is told twice"
    return text


# --------------------------------------------------------------------------- parameters
@pytest.fixture(scope="module")
def smoke_parameters():
    loader = OmegaConfigLoader(
        conf_source=str(ROOT / "conf"),
        base_env="base",
        default_run_env="smoke",
        merge_strategy={"parameters": "soft", "globals": "soft"},
    )
    return dict(loader["parameters"])


def test_the_parameters_of_every_environment_are_valid():
    for env in ("local", "smoke", "mine", "published", "curated", "thorough", "box"):
        loader = OrderedConfigLoader(str(ROOT / "conf"), env=env, **CONFIG_LOADER_ARGS)
        check_parameters(dict(loader["parameters"]))


PARAMETERS = [
    # key, value, what the message must say
    ("modeling", {"training": {"steps": 3}}, "did you mean 'modelling'?"),
    ("modelling_", {}, "did you mean 'modelling'?"),
    ("network", {}, "did you mean 'networks'?"),
    ("split", {}, "did you mean 'splits'?"),
    ("study", {}, "did you mean 'studies'?"),
    ("preprocesing", {}, "did you mean 'preprocessing'?"),
    ("simulations", {}, "did you mean 'simulation'?"),
    ("curate", {}, "did you mean 'curation'"),
    ("report", {}, "did you mean 'reporting'?"),
    ("downlaod", {}, "did you mean 'download'?"),
    ("import_publishd", {}, "did you mean 'import_published'?"),
    ("evalution", {}, "did you mean 'evaluation'?"),
    ("colour", 3, "a block that is not known"),
    ("modelling", None, "Found nothing; expected a block"),
    ("modelling", 3, "expected a block of keys and values"),
    ("curation", [], "expected a block of keys and values"),
    ("splits", None, "expected a block of named entries"),
    ("studies", {}, "no entry that is not null"),
    ("modelling.training.stepps", 3, "did you mean 'steps'?"),
    ("modelling.training.steps", -3, "Found -3; expected greater than 0"),
    ("modelling.training.steps", "many", "Found 'many'; expected a whole number"),
    ("modelling.training.steps", 2.5, "expected a whole number"),
    ("modelling.training.epochs", 3, "give exactly one of 'epochs' and 'steps'"),
    ("modelling.training.learning_rate", -1, "greater than 0"),
    ("modelling.training.learning_rate", "fast", "expected a number"),
    ("modelling.training.learning_rate", math.inf, "Found inf; expected a finite number"),
    ("fine_tuning.learning_rate", math.inf, "Found inf; expected a finite number"),
    ("preprocessing.xray.threshold_counts", math.nan, "Found nan; expected a finite number"),
    ("simulation.imaging.Cs_A", -math.inf, "Found -inf; expected a finite number"),
    ("simulation.imaging.xray_counts", [200, 20], "expected [lowest, highest]"),
    ("modelling.training.seeds", [-1, 2, 3], "greater than or equal to 0"),
    ("modelling.training.batch_size", 0, "greater than 0"),
    ("modelling.training.crop_px", 50, "multiple of 16"),
    ("modelling.training.seeds", 7, "expected a list"),
    ("modelling.training.schedule", "cosine", "expected one of constant, one_cycle"),
    ("modelling.training.foreground", 2, "less than or equal to 1"),
    ("modelling.folds", 1, "greater than or equal to 2"),
    ("modelling.folds", "three", "a whole number"),
    ("modelling.protocols", ["group"], "did you mean 'grouped'?"),
    ("modelling.protocols", [], "at least 1 entries"),
    ("modelling.device", "gpu", "expected one of auto, cpu, cuda"),
    ("modelling.precision", "float16", "did you mean 'bfloat16'"),
    ("modelling.augmentation.dihedral", "alll", "did you mean 'all'?"),
    ("modelling.augmentation.nois", {"rho": 1}, "did you mean 'noise'?"),
    ("modelling.augmentation.noise", {}, "give exactly one of 'rho' (fixed)"),
    ("modelling.augmentation.rotate_probability", 7, "less than or equal to 1"),
    ("modelling.augmentation.pixel_size_factor", [0, 0], "greater than or equal to 0.2"),
    ("modelling.augmentation.pixel_size_factor", [0, 1], "greater than or equal to 0.2"),
    ("modelling.augmentation.pixel_size_factor", [-1, 1], "greater than or equal to 0.2"),
    ("modelling.augmentation.pixel_size_factor", [0.5, 100], "less than or equal to 5"),
    ("modelling.augmentation.pixel_size_factor", [2, 0.5], "expected [lowest, highest]"),
    ("networks.high_dose_noise.augmentation.pixel_size_factor", [2, 0.5], "[lowest, highest]"),
    ("modelling.architecture.options", {"filters": []}, "one for each level, e.g. [4, 8, 16, 32]"),
    ("modelling.architecture.options", {"filters": [4, 0.5]}, "whole numbers above 0"),
    ("modelling.protocols", ["grouped", "grouped"], "'grouped' stands there twice"),
    ("networks.high_dose_noise.train_on", ["high_dose"] * 2, "'high_dose' stands there twice"),
    ("studies.dose.splits", ["low_dose", "low_dose"], "'low_dose' stands there twice"),
    ("studies.dose.networks", ["high_dose_noise"] * 2, "expected each once"),
    ("deployment.networks", ["low_dose", "low_dose"], "'low_dose' stands there twice"),
    ("fine_tuning.labelled", [1, 2, 2], "2 stands there twice; expected each once"),
    ("sweep", {"space": {"modelling.training.steps": [3, 3]}}, "3 stands there twice"),
    ("modelling.architecture.encodr", "resnet18", "did you mean 'encoder'?"),
    ("networks.high_dose_noise.training.stesp", 3, "did you mean 'steps'?"),
    ("networks.high_dose_noise.train_on", "high_dose", "expected a list"),
    ("networks.high_dose_noise.train_on", ["hihg_dose"], "did you mean 'high_dose'"),
    ("networks.high_dose_noise.train_on", [], "'train_on' must name at least one split"),
    ("networks.high_dose_noise.imported", "maybe", "true or false"),
    ("networks.high-dose", {"train_on": ["high_dose"]}, "letters, digits and _"),
    ("splits.low_dose.wher", {"material": "Au"}, "did you mean 'where'?"),
    ("splits.low_dose.where", {}, "at least 1 entries"),
    ("splits.low_dose.where.dose_e_per_A2", {}, "Found {}: expected {value}"),
    ("splits.low_dose.where.dose_e_per_A2", {"tolerance": 3}, "'tolerance' needs the 'value'"),
    ("splits.low_dose.where.dose_e_per_A2", {"value": 80, "min": 3}, "either a value or a range"),
    ("splits.low_dose.where.dose_e_per_A2", {"min": 500, "max": 100}, "a 'min' that is not above"),
    ("splits.low_dose.where.dose_e_per_A2", {"value": 80, "tolerance": -1}, "of 0 or more"),
    ("splits.low_dose.where.dose_e_per_A2", {"min": True}, "Found {'min': True}: expected numbers"),
    ("splits.low_dose.where.dose_e_per_A2", {"max": math.nan}, "expected finite numbers"),
    ("splits.low_dose.where.dose_e_per_A2", [], "at least one value in the list"),
    ("splits.low_dose.where.dose_e_per_A2", math.nan, "Found nan: expected finite numbers"),
    ("splits.low_dose.where.dose_e_per_A2", [80, math.inf], "expected finite numbers"),
    ("splits.low_dose.where.dose_e_per_A2", True, "Found True: expected numbers or texts"),
    ("splits.low_dose.where.dose_e_per_A2", "<100", "asks for '<100' of 'dose_e_per_A2', which"),
    ("splits.low_dose.where.dose_e_per_A2", [80, "low"], "which holds numbers: give a number"),
    ("splits.low_dose.where.dose_e_per_A2", "nan", "which holds numbers: give a number"),
    ("splits.low_dose.where.session", "15.01.2024", 'a date such as "2021-08-26"'),
    ("splits.low_dose.where.material", True, "put a text into quotes ('true')"),
    ("splits.low_dose.where.dose", 80, "unknown column 'dose'"),
    ("splits.low_dose.where.dose_e_per_A2", {"minimum": 3}, "{value, tolerance} or {min, max}"),
    ("splits.low_dose.where.material", {"min": 3}, "which holds texts and no numbers"),
    ("splits.low_dose.preprocessing", {"flat_feild": {}}, "did you mean 'flat_field'?"),
    ("splits.2nd", {"where": {"material": "Au"}}, "beginning with a letter"),
    ("splits.history", {"where": {"material": "Au"}}, "the folder of the histories"),
    ("networks.History", {"train_on": ["low_dose"]}, "expected another one, such as 'History_1'"),
    ("networks.Low_Dose", {"train_on": ["low_dose"]}, "from splits.low_dose in case only"),
    ("splits.LOW_dose", {"where": {"material": "Au"}}, "differs from splits.low_dose in case"),
    ("studies.Dose", {"varies": "dose_e_per_A2"}, "differs from studies.dose in case only"),
    ("networks.best", {"train_on": ["low_dose"]}, "'best' means the choice of the best network"),
    ("networks.box", {"train_on": ["low_dose"]}, "the network that comes with the package"),
    (f"studies.{'a' * 101}", {}, "a name of at most 100 letters"),
    (f"splits.{'a' * 230}", {"where": {"material": "Au"}}, "a name of at most 100 letters"),
    ("fine_tuning.name", "a" * 101, "a name of at most 100 letters"),
    (f"simulation.specimens.{'a' * 101}", {}, "a name of at most 100 letters"),
    ("deployment.name", "a" * 101, "at most 80 characters"),
    ("deployment.name", "..", "beginning with none of - and ."),
    ("deployment.networks", ["low-dose"], "Found 'low-dose'; expected a name of"),
    ("studies.dose.varies", "dosage", "unknown column 'dosage'"),
    ("studies.dose.varies", None, "expected text"),
    ("studies.dose.splits", ["low_dose"], "at least 2 entries"),
    ("studies.dose.splits", ["low_dose", "hihg_dose"], "did you mean 'high_dose'"),
    ("studies.dose.networks", ["high_dose_nois"], "did you mean 'high_dose_noise'"),
    ("studies.dose.vary", "dose_e_per_A2", "did you mean 'varies'?"),
    ("preprocessing.patch_px", 100, "multiple of 16"),
    ("preprocessing.patch_px", -512, "greater than or equal to 32"),
    ("preprocessing.pixel_size_nm", 0, "greater than or equal to 0.0001"),
    ("fine_tuning.pixel_size_nm", -0.02, "greater than or equal to 0.0001"),
    ("deployment.pixel_size_nm", 5000, "Found 5000; expected less than or equal to 1000"),
    ("preprocessing.flat_field", "none", "expected a block of keys and values"),
    ("preprocessing.flat_field.mode", "backgroud", "did you mean 'background'?"),
    ("preprocessing.standardise", "perhaps", "true or false"),
    ("curation.columns.dose", "Dose", "unknown column 'dose'"),
    ("curation.label_kind", "instances", "did you mean 'instance'?"),
    ("curation.group_by", "specimen", "did you mean 'specimen_id'"),
    ("curation.decimal", ";", "expected one of ,, ."),
    ("curation.date_format", "DD.MM.YYYY", "expected day, month and year as strptime writes them"),
    ("curation.date_format", "DD.MM.YYYY", "'%d.%m.%Y' (null"),
    ("curation.date_format", "tt.mm.jj", "'%d.%m.%y' (null"),
    ("curation.date_format", "%D/%MMM/%Y", "'%d/%b/%Y' (null"),
    ("curation.date_format", "%d.%m", "e.g. '%d.%m.%Y' for 26.08.2021"),
    ("curation.date_format", "%d.%d.%Y", "e.g. '%d.%m.%Y' for 26.08.2021"),
    ("curation.date_format", "%Q", "e.g. '%d.%m.%Y' for 26.08.2021"),
    ("curation.date_format", "", "null reads ISO dates"),
    ("reporting.confidence", 95, "less than 1"),
    ("reporting.permutations", -1, "greater than or equal to"),
    ("reporting.breaks_above", 0.01, "must be larger than 'degrades_above'"),
    ("simulation.fields", 0, "greater than or equal to 1"),
    ("simulation.specimens.au_2nm.material", "Pt", "expected one of Ag, Au, CdSe"),
    ("simulation.specimens.au_2nm.support", "carbn", "did you mean 'carbon'?"),
    ("simulation.acquisitions", [], "at least 1 entries"),
    ("simulation.acquisitions.0.session", "15.1.2024", "a date such as 2024-01-15"),
    ("simulation.acquisitions.0.dose", 80, "did you mean 'dose_e_per_A2'?"),
]


@pytest.mark.parametrize(
    ("key", "value", "said"), PARAMETERS, ids=[f"{k}={v}" for k, v, _ in PARAMETERS]
)
def test_parameters(smoke_parameters, key, value, said):
    parameters = copy.deepcopy(smoke_parameters)
    *parents, last = key.split(".")
    block = parameters
    for parent in parents:
        block = block[int(parent)] if isinstance(block, list) else block.setdefault(parent, {})
    block[last] = value
    with pytest.raises(UserError) as caught:
        check_parameters(parameters, where=lambda key: "conf/smoke/parameters.yml")
    text = three_lines(caught.value)
    assert said in text
    assert text.endswith("Change it in conf/smoke/parameters.yml")


def models():
    waiting = [Strict]
    while waiting:
        model = waiting.pop()
        yield model
        waiting += model.__subclasses__()


def patterns(schema):
    """Return all patterns in a JSON schema."""
    if isinstance(schema, list):
        return [p for part in schema for p in patterns(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
    keys = list(schema.get("patternProperties", ()))
    return [*own, *keys, *(p for part in schema.values() for p in patterns(part))]


def test_what_every_pattern_asks_for_is_told_in_words():
    found = {p for model in models() for p in patterns(model.model_json_schema())}
    assert len(found) >= 6
    assert found <= set(PATTERNS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{scheduler: "127.0.0.1:8786"}', "Found '127.0.0.1:8786'; expected local, slurm or the"),
        ("{scheduler: lokal}", "such as tcp://10.0.0.1:8786"),
        ("{scheduler: slurm, slurm: {host: h, walltime: soon}}", "such as 12:00:00"),
        ("{scheduler: slurm, slurm: {host: h}, workers: 8}", "use slurm.jobs, slurm.gpus"),
        ('{scheduler: "tcp://a:1", gpus: 2, memory_GB: 9}', "'gpus' and 'memory_GB' of workers on"),
    ],
)
def test_of_a_cluster_it_is_told_what_an_address_looks_like(tmp_path, content, said):
    loader = case_loader(tmp_path, content, "cluster.yml")
    error = raised(lambda: context._cluster_parameters(loader))
    text = three_lines(error)
    assert said in text
    assert "\\" not in text, "a pattern is shown"
    assert text.endswith("Change it in conf/case/cluster.yml")


# --------------------------------------------------------------------------- files of parameters
def case_loader(folder, content, name="parameters.yml"):
    """Return the loader of an environment ``case`` with one further file."""
    files = {
        "base/parameters_modelling.yml": "networks: {n0: {train_on: [a]}}\n",
        "case/parameters_data_curation.yml": "studies: {dose: {varies: x, networks: [n0]}}\n",
        f"case/{name}": content,
    }
    for file, text in files.items():
        (folder / "conf" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    return OrderedConfigLoader(str(folder / "conf"), env="case", **CONFIG_LOADER_ARGS)


def read_case(folder, content, name="parameters.yml", kind="parameters"):
    """Read it, as ``kedro run --env case`` does."""
    return case_loader(folder, content, name)[kind]


N1 = "networks:\n  n1: {train_on: [a]}\n"
FILES = {
    # content; what the first line must say, and the message
    "in two files": (
        "studies: {dose: {networks: [n1]}}\n",
        "conf/case/parameters.yml and conf/case/parameters_data_curation.yml set the same key: "
        "studies.dose.networks",
        "name that with --env",
    ),
    "block and value": ("studies: {dose: null}\n", "same key: studies.dose", "Remove it from one"),
    "twice": (f"{N1}  n2: {{}}\n  n1: {{}}\n", "line 4: the key 'n1' stands twice", "in line 2"),
    "tab": (f"{N1}\tn2: {{}}\n", "parameters.yml, line 3: this is no valid YAML", "Found: a tab"),
    "indentation": (
        "networks:\n  n1:\n    imported: true\n   x: 3\n",
        "line 4: this is no",
        "indentation",
    ),
    "colon": (f"{N1}steps 3\nb: 2\n", "line 3: this is no valid", "without the colon"),
    "bracket": (f"{N1}b: [1, 2\nc: 3\n", "line 4: this is no valid", "begins in line 3"),
    "list": ("- a\n- b\n", "parameters.yml: this is no block", "Found a list"),
    "number": ("3\n", "parameters.yml: this is no block", "Found 3"),
    "list of networks": (
        "networks: [n1]\n",
        "conf/case/parameters.yml: 'networks' is of the wrong kind",
        "expected a block of keys and values, as in conf/base/parameters_modelling.yml",
    ),
    "unclosed": ("a: 1\nb: '${globals:x'\n", "parameters.yml, line 2", "closed by a brace"),
    "undefined": ("a: {b: '${globals:x}'}\n", "parameters.yml, a.b: a value refers to 'x'", "x"),
    "resolver": ("a: {b: '${glob:x}'}\n", "parameters.yml, a.b: a value refers to 'glob'", "x"),
    "true": ("a: 1\non: 3\n", "line 2: the key 'on' is no text", "reads as true or false"),
    "null": ("a:\n  ~: 3\n", "line 2: the key '~' is no text", "reads as nothing"),
    "latin": (
        "# a\nb: Übung\n".encode("latin-1"),
        "parameters.yml, line 2: this file is not written in UTF-8",
        "the byte 0xdc ('Ü' in Latin-1)",
    ),
    "control": ("a: 1\nb: \0\n", "parameters.yml, line 2: this is no valid", "a character"),
}


@pytest.mark.parametrize(("content", "what", "said"), FILES.values(), ids=FILES)
def test_files_of_parameters(tmp_path, content, what, said):
    error = raised(lambda: read_case(tmp_path, content))
    assert isinstance(error, UserError)
    assert said in three_lines(error)
    assert what in error.what


@pytest.mark.parametrize("kind", ["globals", "cluster", "catalog"])
def test_other_files_of_an_environment(tmp_path, kind):
    error = raised(lambda: read_case(tmp_path, "a: 1\na: 2\n", f"{kind}.yml", kind))
    assert f"conf/case/{kind}.yml, line 2: the key 'a' stands twice" in three_lines(error)


def test_what_no_study_names_is_found_with_its_file(tmp_path, smoke_parameters, monkeypatch):
    content = "networks: {n1: {train_on: [low_dose]}, n0: {train_on: [low_dose]}}\n"
    loader = case_loader(tmp_path, content)
    parameters = copy.deepcopy(smoke_parameters)
    own = {name: {"train_on": ["low_dose"]} for name in ("n0", "n1")}
    parameters["networks"] |= {**own, "in_base": {"train_on": ["low_dose"]}}
    parameters["splits"]["idle"] = {"where": {"material": "Au"}}
    parameters["studies"]["dose"]["networks"] = ["n0"]
    monkeypatch.setattr(context, "_loader", loader)
    monkeypatch.setattr(context, "_checked", (loader, parameters))
    assert context.declared_in_vain() == {"networks.n1": "conf/case/parameters.yml"}
    assert {"splits.idle", "networks.in_base"} <= set(context.study_plan().unused)


def test_what_two_files_may_share(tmp_path):
    found = read_case(tmp_path, "studies: {dose: {splits: [a, b]}}\n")
    assert found["studies"] == {"dose": {"varies": "x", "networks": ["n0"], "splits": ["a", "b"]}}


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("studies: {a.b: {varies: x}}\n", "studies.a.b"),
        ("studies: {../../x: {varies: x}}\n", "studies.../../x"),
        ("splits: {2024: {where: {material: Au}}}\n", "splits.2024"),
        (
            "sweep: {space: {modelling.training.steps: [0]}}\n",
            "sweep.space.modelling.training.steps",
        ),
        ("networks: {n0: {train_on: [b]}}\n", "networks.n0.train_on.0"),
        ("networks: {n1: {train_on: [b]}}\n", "networks.n1.trainon"),
    ],
)
def test_a_key_is_found_in_its_file_whatever_its_name(tmp_path, content, key):
    loader = case_loader(tmp_path, content, "parameters_x.yml")
    assert context._where(loader, key) == "conf/case/parameters_x.yml"
    assert context._where(loader, "networks.n0.imported") == (
        "conf/case/parameters_x.yml" if "n0" in content else "conf/base/parameters_modelling.yml"
    )
    assert context._where(loader, "studies.dose.varies") == (
        "conf/case/parameters_data_curation.yml"
    )
    assert context._where(loader, "trust.micrographs") == "conf/case"


ARCHITECTURES = [
    ({"name": "Unett"}, {}, "did you mean 'Unet'"),
    ({"name": "Unet", "encoder": "resnet17"}, {}, "unknown encoder 'resnet17'; did you mean"),
    ({"name": "Unet", "encoder_weights": "imagnet"}, {}, "did you mean 'imagenet'?"),
    (
        {"name": "Unet", "encoder": "tu-resnet18", "encoder_weights": "imagnet"},
        {},
        "expected one of a1_in1k, imagenet (did you mean 'imagenet'?)",
    ),
    (
        {"name": "Unet", "encoder": "tu-resnet18", "encoder_weights": "a2_in1k"},
        {},
        "others are named with the encoder: tu-resnet18.a2_in1k",
    ),
    (
        {"name": "Unet", "encoder": "tu-coatnet_0_224", "encoder_weights": "imagenet"},
        {},
        "tu-coatnet_0_224 has no pretrained weights",
    ),
    ({"name": "Unet", "encoder": "tu-resnet18xx"}, {}, "did you mean 'tu-resnet18'"),
    ({"name": "Unet", "encoder": "tu-resnet18.a3_in1"}, {}, "did you mean 'tu-resnet18.a3_in1k'"),
    (
        {"name": "Unet", "encoder": "tu-resnet18.a9_in1k", "encoder_weights": "imagenet"},
        {},
        "unknown encoder 'tu-resnet18.a9_in1k'; did you mean 'tu-resnet18.",
    ),
    ({"name": "published_unet", "encoder": "resnet18"}, {}, "has no 'encoder'"),
    ({"name": "Unet", "encoder": "resnet18", "options": {"depht": 3}}, {}, "depht"),
    (
        {"name": "Unet", "encoder": "resnet18"},
        {"patch_px": 208},
        "208 px; expected a multiple of 32",
    ),
]


@pytest.mark.parametrize(("architecture", "preprocessing", "said"), ARCHITECTURES)
def test_architectures(architecture, preprocessing, said):
    splits = {n: {"where": {"dose_e_per_A2": d}} for n, d in (("low", 80), ("high", 884))}
    studies = {"dose": {"varies": "dose_e_per_A2", "splits": ["low", "high"]}}
    plan = StudyPlan.from_parameters({"splits": splits, "studies": studies})
    modelling = ModellingParameters(architecture=architecture, training={"steps": 3})
    with pytest.raises(UserError) as caught:
        check_architectures(plan, modelling, PreprocessingParameters(**preprocessing))
    assert said in three_lines(caught.value)


def plan_of(network, **splits):
    """Return a plan in which ``n1`` is trained on one of two splits, and its parameters."""
    doses = {"low": 80, "high": 884}
    return StudyPlan.from_parameters(
        {
            "splits": {
                n: {"where": {"dose_e_per_A2": d}, **splits.get(n, {})} for n, d in doses.items()
            },
            "studies": {
                "dose": {"varies": "dose_e_per_A2", "splits": [*doses], "networks": ["n1"]}
            },
            "networks": {"n1": {"train_on": ["high"], **network}},
        }
    )


def refused(network, training=(), preprocessing=(), **modelling):
    """Return what the check before a run says of a network ``n1``."""
    settings = ModellingParameters(training={"steps": 3, **dict(training)}, **modelling)
    patches = PreprocessingParameters(**{"patch_px": 64, **dict(preprocessing)})
    with pytest.raises(UserError) as caught:
        check_architectures(plan_of(network), settings, patches)
    return three_lines(caught.value)


RESNET = {"encoder": "resnet18"}
SIZES = "networks.n1.architecture: the network 'n1' cannot take"
FORMS = "networks.n1.architecture: the network 'n1' does not give logits of 64 × 64 px"
IMAGES = [
    ({"name": "PAN", **RESNET}, {}, (SIZES, "Output size is too small", "preprocessing.patch_px")),
    (
        {"name": "Unet", "encoder": "tu-maxvit_tiny_tf_224"},
        {"crop_px": 64},
        (SIZES, "must be divisible by window", "Set another networks.n1.training.crop_px (now 64)"),
    ),
    (
        {"name": "DPT", "encoder": "tu-vit_tiny_patch16_224"},
        {},
        (SIZES, "Input height (64) doesn't match model (224)", "images of one size only"),
    ),
    (
        {"name": "DeepLabV3", **RESNET},
        {"batch_size": 1},
        (SIZES, "one crop of 64 × 64 px at a time", "networks.n1.training.batch_size to 2 or more"),
    ),
    (
        {"name": "Unet", **RESNET, "options": {"aux_params": {"classes": 2}}},
        {},
        (FORMS, "gives a tuple", "networks.n1.architecture.options"),
    ),
    (
        {"name": "FPN", **RESNET, "options": {"upsampling": 2}},
        {},
        (FORMS, "shape (2, 2, 32, 32); expected the shape (2, 2, 64, 64)", "such as upsampling"),
    ),
    (
        {"name": "Unet", **RESNET, "options": {"activation": "softmax"}},
        {},
        ("networks.n1.architecture.options.activation", "Found 'softmax'", "Leave it out"),
    ),
    (
        {"name": "Unet", "encoder": "tu-resnet18", "options": {"activation": "sigmoid"}},
        {},
        ("networks.n1.architecture.options.activation", "Found 'sigmoid'"),
    ),
]


@pytest.mark.parametrize(("architecture", "training", "said"), IMAGES)
def test_images_that_a_network_cannot_take(architecture, training, said):
    text = refused({"architecture": architecture, "training": training})
    assert not [words for words in said if words not in text], text


def test_an_architecture_of_all_networks_is_named_as_such():
    text = refused({}, architecture={"name": "PAN", **RESNET})
    assert "modelling.architecture: the network 'low' cannot take a crop of 64 × 64 px" in text


@pytest.mark.parametrize(
    ("network", "training", "said"),
    [
        ({"training": {"crop_px": 80}}, {}, "networks.n1.training.crop_px"),
        ({}, {"crop_px": 80}, "modelling.training.crop_px"),
        ({"architecture": {"name": "Unet"}}, {"crop_px": 80}, "modelling.training.crop_px"),
    ],
)
def test_a_crop_is_told_by_the_key_in_which_it_stands(network, training, said):
    text = refused(network, training, {"patch_px": 96}, architecture={"name": "Unet", **RESNET})
    assert text.startswith(f"{said} does not suit the network ")
    assert f"Set {said} to 64 or 96" in text


def test_weights_are_told_by_the_key_in_which_they_stand():
    default = {"name": "Unet", **RESNET, "encoder_weights": "swsl"}
    text = refused({"architecture": {"encoder": "vgg11"}}, architecture=default)
    assert text.startswith("modelling.architecture.encoder_weights: ")


def test_patches_of_several_sizes_are_told_before_the_run():
    plan = plan_of({"train_on": ["low", "high"]}, high={"preprocessing": {"patch_px": 96}})
    settings = ModellingParameters(training={"steps": 3})
    with pytest.raises(UserError) as caught:
        check_architectures(plan, settings, PreprocessingParameters(patch_px=64))
    what, found, _ = three_lines(caught.value).splitlines()
    assert what.startswith("networks.n1.train_on: ")
    assert "low 64 px (preprocessing.patch_px)" in found
    assert "high 96 px (splits.high.preprocessing.patch_px)" in found


@pytest.mark.parametrize(
    ("g", "modelling", "key"),
    [
        ({"architecture": {"normalisation": "group"}}, {}, "networks.g.architecture"),
        ({}, {"architecture": {"normalisation": "instance"}}, "modelling.architecture"),
    ],
)
def test_batch_norms_that_are_not_there_are_told_before_the_run(g, modelling, key):
    splits = {n: {"where": {"dose_e_per_A2": d}} for n, d in (("low", 80), ("high", 884))}
    study = {"varies": "dose_e_per_A2", "splits": [*splits], "networks": ["g", "n1"]}
    networks = {
        "g": {"train_on": ["low"], **g},
        "n1": {"weights_of": "g", "adaptation": {"batch_norm": True}},
    }
    plan = StudyPlan.from_parameters(
        {"splits": splits, "studies": {"dose": study}, "networks": networks}
    )
    settings = ModellingParameters(training={"steps": 3}, **modelling)
    with pytest.raises(UserError) as caught:
        check_architectures(plan, settings, PreprocessingParameters(patch_px=64))
    what, found, _ = three_lines(caught.value).splitlines()
    assert what == "networks.n1.adaptation.batch_norm: the network 'g' has no batch norm"
    assert found.startswith(f"Found {key}.normalisation: ")


@pytest.mark.parametrize(
    ("encoder", "source"),
    [("resnet18", "smp-hub/resnet18.imagenet"), ("tu-resnet18", "timm/resnet18.a1_in1k")],
)
def test_weights_that_cannot_be_downloaded_are_told_before_the_run(encoder, source, monkeypatch):
    import huggingface_hub

    from temshift.learning import networks

    asked = {"name": "Unet", "encoder": encoder, "encoder_weights": "imagenet"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr(networks, "out_of_reach", lambda *source: "Name or service not known")
    what, found, remedy = refused({"architecture": asked}).splitlines()
    assert what.startswith("networks.n1.architecture.encoder_weights: the weights 'imagenet' of ")
    assert f"expected them from https://huggingface.co/{source}," in found
    assert "encoder_weights: null" in remedy
    plan, settings = plan_of({"architecture": asked}), ModellingParameters(training={"steps": 3})
    patches = PreprocessingParameters(patch_px=64)
    check_architectures(plan, settings, patches, downloaded=[])
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: "/kept")
    check_architectures(plan, settings, patches)


def test_of_an_imported_network_its_card_says_what_it_has():
    splits = {n: {"where": {"dose_e_per_A2": d}} for n, d in (("low", 80), ("high", 884))}
    study = {"varies": "dose_e_per_A2", "splits": [*splits], "networks": ["g", "n1"]}
    networks = {
        "g": {"imported": True},
        "n1": {"weights_of": "g", "adaptation": {"batch_norm": True}},
    }
    plan = StudyPlan.from_parameters(
        {"splits": splits, "studies": {"dose": study}, "networks": networks}
    )
    group = ModellingParameters(training={"steps": 3}, architecture={"normalisation": "group"})
    check_architectures(plan, group, PreprocessingParameters(patch_px=64))


def test_weights_that_cannot_be_downloaded_are_told_in_training(monkeypatch):
    import segmentation_models_pytorch as smp
    from huggingface_hub.errors import LocalEntryNotFoundError

    from temshift.learning.networks import build_network

    def fail(*given, **named):
        raise LocalEntryNotFoundError("we cannot find the requested files in the local cache")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", fail)
    error = raised(lambda: build_network("Unet", "resnet18", "imagenet"))
    assert "https://huggingface.co/smp-hub/resnet18.imagenet" in three_lines(error)
    text = three_lines(raised(fail))
    assert "cannot be downloaded" in text
    assert "encoder_weights: null" in text
    assert "globals.yml" not in text


def test_a_patch_that_a_network_is_tested_on_is_tried_too():
    """It takes the crops that it is trained on, but not the patches."""
    text = refused(
        {"architecture": {"name": "DPT", "encoder": "tu-vit_tiny_patch16_224"}},
        {"crop_px": 224},
        {"patch_px": 256},
    )
    assert "the network 'n1' cannot take a patch of 256 × 256 px" in text
    assert "Set another preprocessing.patch_px (now 256)" in text


def test_sound_networks_pass_once_and_leave_the_random_state(monkeypatch):
    import torch

    from temshift.learning import checks

    passes = []
    form = checks._form
    monkeypatch.setattr(checks, "_form", lambda *a: passes.append(a) or form(*a))
    settings = ModellingParameters(training={"steps": 3}, architecture={"name": "FPN", **RESNET})
    before = torch.get_rng_state()
    check_architectures(plan_of({}), settings, PreprocessingParameters(patch_px=64))
    assert torch.equal(torch.get_rng_state(), before)
    assert [seen.training for _, seen in passes] == [True, False]


# --------------------------------------------------------------------------- the file of the table
def zipped(name):
    """A zipped file that holds a file of this name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, "rest")
    return buffer.getvalue()


UMLAUT = "File,Ort\na.png,München\n"
TABLES = [
    ("absent.csv", None, {}, "the metadata table is not there"),
    ("empty.csv", b"", {}, "the metadata table is empty"),
    ("semicolons.csv", b"File;Dose\na.png;0,02\n", {}, 'sep: ";"'),
    ("tabs.csv", b"File\tDose\na.png\t0.02\n", {}, r'sep: "\t"'),
    ("latin.csv", UMLAUT.encode("latin-1"), {}, "encoding: cp1252"),
    ("wide.csv", UMLAUT.encode("utf-16"), {}, "encoding: utf-16 there"),
    ("wide_without_mark.csv", UMLAUT.encode("utf-16-le"), {}, "encoding: utf-16-le"),
    ("eight_bit.csv", UMLAUT.encode(), {"encoding": "latin-1"}, "encoding: utf-8-sig"),
    ("no_encoding.csv", b"a,b\n", {"encoding": "utf-9"}, "there is no encoding 'utf-9'"),
    ("quotes.csv", b'File,Dose\n"a.png,3\nb.png,4\n', {}, "quotes that are not closed"),
    ("decimal.csv", b"File,Dose\na.png,0,02\n", {}, "cannot be divided into columns"),
    ("twice.csv", b"File,Dose,Dose\na.png,1,2\n", {}, "two columns of the metadata table have one"),
    ("book.csv", zipped("xl/workbook.xml"), {}, "Let its name end in .xlsx"),
    ("table.ods", zipped("content.xml"), {}, "Found an OpenDocument file"),
    ("table.ods", zipped("content.xml"), {}, "Save it as .xlsx or .csv"),
    ("table.numbers", zipped("Index/Tables.iwa"), {}, "Save it as .xlsx or .csv"),
    ("half.csv", b"PK\x03\x04rest", {}, "Found a damaged zipped file"),
    ("old.xls", b"\xd0\xcf\x11\xe0rest", {}, "Save it as .xlsx or .csv"),
    ("table.csv.gz", b"\x1f\x8b\x08rest", {}, "packed by gzip"),
    ("page.xls", b"\n<HTML><table><tr>", {}, "Found a web page"),
    ("table.pdf", b"%PDF-1.7", {}, "Found a PDF"),
    ("broken.xlsx", b"no book", {}, "the workbook cannot be opened"),
]


@pytest.mark.parametrize(("name", "content", "options", "said"), TABLES, ids=[t[0] for t in TABLES])
def test_files_of_tables(tmp_path, name, content, options, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_metadata_table(tmp_path / name, **options)
    assert said in three_lines(caught.value)


def test_a_table_that_is_a_folder(tmp_path):
    with pytest.raises(UserError, match="the metadata table is a folder"):
        read_metadata_table(tmp_path)


def test_a_table_that_is_nearly_called_so(tmp_path):
    (tmp_path / "table.csv").write_text("File\na.png\n")
    with pytest.raises(UserError, match=r"did you mean 'table.csv'\?"):
        read_metadata_table(tmp_path / "tabel.csv")


def test_an_unknown_option_of_the_table():
    with pytest.raises(UserError, match=r"expected one of encoding, sep, sheet"):
        MetadataTableDataset("table.csv", load_args={"seperator": ";"})


def test_a_workbook_is_read_as_it_looks(tmp_path):
    rows = {"File": ["a.png", "b.png"], "Grid": [1, 2], "Dose": [80.5, None]}
    rows["Date"] = [datetime.datetime(2021, 8, 26), None]
    pd.DataFrame(rows).to_excel(tmp_path / "table.xlsx", index=False)
    raw = read_metadata_table(tmp_path / "table.xlsx")
    columns = {"path": "File", "label_path": "masks/{File}", "specimen_id": "Grid"}
    columns |= {"dose_e_per_A2": "Dose", "session": "Date"}
    for date_format in (None, "%d.%m.%Y"):
        curation = CurationParameters(columns=columns, date_format=date_format)
        table, findings = standardise_table(raw, curation)
        assert findings.empty
        assert table["session"].tolist() == ["2021-08-26", ""]
        assert table["specimen_id"].tolist() == ["1", "2"]
        assert table["dose_e_per_A2"][0] == 80.5
    with pytest.raises(UserError, match="the workbook has no sheet 'Tabelle1'"):
        read_metadata_table(tmp_path / "table.xlsx", sheet="Tabelle1")


# --------------------------------------------------------------------------- cells of the table
CELLS = [
    ("dose_e_per_A2", "0,02", "a decimal comma?"),
    ("dose_e_per_A2", "80 e/A2", "a number without its unit"),
    ("dose_e_per_A2", "n/a", "or an empty cell"),
    ("dose_e_per_A2", "-80", "a positive number"),
    ("pixel_size_nm", "0", "a pixel between"),
    ("session", "26.08.2021", "curation.date_format"),
    ("session", "2021-13-45", "a date such as"),
    ("sha256", "abc", "64 hexadecimal digits"),
    ("path", "../a.png", "a path below the folder"),
    ("path", "/data/a.png", "a path below the folder"),
    ("path", "C:\\data\\a.png", "a path below the folder"),
    ("label_path", "../masks/a.png", "a path below the folder"),
    ("path", "", "given for every micrograph"),
    ("path", "b.png", "a value of its own for every micrograph"),
]


@pytest.mark.parametrize(("column", "cell", "expected"), CELLS)
def test_cells(column, cell, expected):
    raw = pd.DataFrame({"path": ["a.png", "b.png"], "label_path": ["a_m.png", "b_m.png"]})
    raw = raw.assign(**{column: [cell, raw[column][1] if column in raw else ""]})
    findings = standardise_table(raw, CurationParameters())[1]
    assert any(expected in text for text in findings["expected"]), findings.to_string()
    assert set(findings["severity"]) == {"error"}


def test_what_the_table_allows():
    raw = pd.DataFrame(
        {"path": ["../a.png"], "label_path": ["/m/a.png"], "dose_e_per_A2": ["0,02"]}
    )
    curation = CurationParameters(allow_outside=True, decimal=",")
    table, findings = standardise_table(raw, curation)
    assert findings.empty
    assert table["dose_e_per_A2"][0] == 0.02


def test_stem_and_parent_are_those_of_pathlib():
    raw = pd.DataFrame({"File": ["day 1/a.dm3"]})
    for template, path in (
        ("masks/{File.stem}.png", "masks/a.png"),
        ("{File.parent}/masks/{File.stem}.png", "day 1/masks/a.png"),
    ):
        columns = {"path": "File", "label_path": template}
        table, _ = standardise_table(raw, CurationParameters(columns=columns))
        assert table["label_path"][0] == path


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "there is no column 'path'"),
        ({"path": "Files", "label_path": "Mask"}, "did you mean 'File'"),
        ({"path": "File", "label_path": "{Fil.stem}.png"}, "did you mean 'File'"),
        ({"path": "File", "label_path": "{}.png"}, "names no column"),
    ],
)
def test_columns(columns, said):
    raw = pd.DataFrame({"File": ["a.png"], "Mask": ["a_m.png"]})
    with pytest.raises(UserError) as caught:
        standardise_table(raw, CurationParameters(columns=columns))
    assert said in three_lines(caught.value)


# --------------------------------------------------------------------------- files and whole tables
@pytest.fixture
def folder(tmp_path, rng):
    """Six micrographs with masks of 30 px particles, and their table."""
    rows = []
    for i in range(6):
        picture = rng.integers(0, 255, (96, 96)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"000{i}.png")
        mask = np.zeros((96, 96), np.uint8)
        mask[i : i + 30, 5:35] = 255
        Image.fromarray(mask).save(tmp_path / f"000{i}_mask.png")
        row = {"path": f"000{i}.png", "label_path": f"000{i}_mask.png", "pixel_size_nm": 0.02}
        rows.append({**row, "dose_e_per_A2": 80 if i % 2 else 884, "material": "Au"})
    return tmp_path, pd.DataFrame(rows)


LOW_HIGH = {
    "low": SplitParameters(where={"dose_e_per_A2": 80}),
    "high": SplitParameters(where={"dose_e_per_A2": 884}),
}


def check(folder, raw, splits=LOW_HIGH, patches=None, **curation):
    """Check data as ``kedro run --pipelines data_curation`` does; return the report."""
    parameters = CurationParameters(**curation)
    table, findings = standardise_table(raw, parameters)
    inspected, measured = inspect_micrographs(
        table, findings, MicrographStore(folder), parameters, splits
    )
    varied = {"dose_e_per_A2": list(splits)}
    report = report_integrity(
        table, inspected, measured, parameters, splits, varied, patches or Patches(96)
    )
    if (report["severity"] == "error").any():
        with pytest.raises(UserError) as caught:
            accept(table, report, measured, parameters, splits, 3)
        three_lines(caught.value)
    return report


def texts(report, severity):
    rows = report[report["severity"] == severity]
    return (rows["found"] + "; " + rows["expected"]).tolist()


def test_sound_data_give_no_word(folder):
    assert check(*folder).empty


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("0000.PNG", "0000.png"),
        ("0000", "0000.png"),
        ("0", "0000.png"),
        ("sub\\0000.png", "sub/0000.png"),
        (unicodedata.normalize("NFD", "Möbius.png"), unicodedata.normalize("NFC", "Möbius.png")),
        ("old/0000.png", "0000.png"),
        ("0000.tif", "0000.png"),
    ],
)
def test_files_that_are_called_otherwise(folder, wrong, meant):
    where, raw = folder
    (where / meant).parent.mkdir(exist_ok=True)
    if not (where / meant).exists():
        (where / "0000.png").rename(where / meant)
    (error,) = texts(check(where, raw.assign(path=[wrong, *raw["path"][1:]])), "error")
    assert f"did you mean {meant!r}" in error


def test_masks_that_are_called_otherwise(folder):
    where, raw = folder
    (error,) = texts(
        check(where, raw.assign(label_path=["0000_MASK.png", *raw["label_path"][1:]])), "error"
    )
    assert "did you mean '0000_mask.png'?" in error


def test_findings_come_before_splits_that_select_nothing(folder):
    where, raw = folder
    comma = raw.assign(dose_e_per_A2=[f"{dose},0" for dose in raw["dose_e_per_A2"]])
    errors = texts(check(where, comma), "error")
    assert len(errors) == 6
    assert all("a decimal comma?" in error for error in errors)


def one_warning(report, said):
    (warning,) = [text for text in texts(report, "warning") if said in text]
    return warning


def test_micrographs_in_no_split(folder):
    where, raw = folder
    report = check(where, raw.assign(dose_e_per_A2=[80, 884, 80, 884, 500, 500]))
    assert "2 of 6 micrographs" in one_warning(report, "in no split")


def test_overlapping_splits(folder):
    splits = {**LOW_HIGH, "any": SplitParameters(where={"dose_e_per_A2": {"min": 100}})}
    assert "high and any (3)" in one_warning(check(*folder, splits), "micrographs in two splits")


def test_splits_that_differ_in_preprocessing_only_may_overlap(folder):
    raw_too = SplitParameters(
        where={"dose_e_per_A2": 80}, preprocessing={"flat_field": {"mode": "none"}}
    )
    assert check(*folder, {**LOW_HIGH, "raw": raw_too}).empty


def test_identical_masks(folder):
    where, raw = folder
    (where / "0003_mask.png").write_bytes((where / "0001_mask.png").read_bytes())
    one_warning(check(where, raw), "1 masks with the same pixels")
    one_field = raw.assign(specimen_id=["a", "b", "c", "b", "d", "e"])
    assert check(where, one_field).empty


def shared(raw, **changes):
    """Give the micrographs 1 and 3 the mask of the first of them."""
    masks = raw["label_path"].tolist()
    return raw.assign(label_path=[*masks[:3], f"./{masks[1]}", *masks[4:]], **changes)


def test_one_mask_for_micrographs_of_different_specimens(folder):
    where, raw = folder
    for specimens in ([""] * 6, list("abcdef"), ["a", "b", "c", "", "d", "e"]):
        report = check(where, shared(raw, specimen_id=specimens))
        (error,) = texts(report, "error")
        assert report["file"].tolist() == ["0003.png"]
        assert "0001_mask.png, which is also the mask of 0001.png" in error
        assert "{File.parent}" in error


def test_one_mask_for_a_field_that_was_imaged_twice(folder):
    where, raw = folder
    report = check(where, shared(raw, specimen_id=list("abcbde")))
    warning = one_warning(report, "1 micrographs with the mask of another")
    assert "0001_mask.png, which is also the mask of 0001.png" in warning
    assert len(report) == 1


def test_one_empty_mask_for_many(folder):
    where, raw = folder
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(where / "0001_mask.png")
    report = check(where, shared(raw))
    assert set(report["found"]) == {"a mask without any particle"}


def specimens(folder, one, other):
    """Return what is said of two specimens of these names, and four others."""
    where, raw = folder
    report = check(where, raw.assign(specimen_id=["p", one, "q", other, "r", "s"]))
    return texts(report, "warning")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("grid_1", "Grid 1"),
        ("grid 01", "grid-1"),
        ("007", "7"),
        ("Au_grid", "augrid"),
        ("1-1", "01_1"),
        ("A 10 nm", "A10nm"),
        ("grid\u20131", "grid1"),
        ("Mo\u0308bius", "M\u00f6bius"),
    ],
)
def test_specimens_whose_names_differ_only_in_typing(folder, one, other):
    (warning,) = specimens(folder, one, other)
    assert f"1 specimens with names that differ only in typing: {one!r} and {other!r}" in warning


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("grid_1", "grid_11"),
        ("1-1", "11"),
        ("1 10", "11 0"),
        ("a1", "a10"),
        ("0.05", "0.5"),
        ("-1", "1"),
        ("Au+", "Au-"),
        ("Au", "Au-"),
        ("2024-01-15", "2024-11-5"),
        ("100", "1"),
    ],
)
def test_specimens_whose_names_differ_in_fact(folder, one, other):
    assert specimens(folder, one, other) == []


def test_empty_cells_in_the_studied_column(folder):
    where, raw = folder
    report = check(where, raw.assign(dose_e_per_A2=["", *raw["dose_e_per_A2"][1:]]))
    assert "though a study varies it" in one_warning(report, "1 empty cells")
    one_warning(report, "1 of 6 micrographs in no split")


@pytest.mark.parametrize("pixel_size", [0.0002, 20, 200])
def test_pixel_sizes_in_another_unit(folder, pixel_size):
    where, raw = folder
    report = check(where, raw.assign(pixel_size_nm=pixel_size))
    assert "6 micrographs whose particles" in one_warning(report, "in Å or pm?")


def test_patches_that_leave_much_out(folder):
    assert check(*folder, patches=Patches(64)).empty  # the last ones overlap
    report = check(*folder, patches=Patches(64, published=True))
    warning = one_warning(report, "lies in no patch of 64 px")
    assert "low: 56%" in warning
    assert "96 px fit better" in warning


def test_patches_that_are_larger_than_the_micrographs(folder):
    errors = texts(check(*folder, patches=Patches(512)), "error")
    assert len(errors) == 6
    assert "96 × 96 px; at least one patch of 512 px" in errors[0]


def test_resampling_without_a_pixel_size(folder):
    where, raw = folder
    report = check(where, raw.drop(columns="pixel_size_nm"), patches=Patches(96, 0.03))
    assert all("asks for resampling" in error for error in texts(report, "error"))
    assert len(report) == 6


def test_masks_of_grey_values(folder):
    where, raw = folder
    Image.fromarray(np.arange(96 * 96, dtype=np.uint8).reshape(96, 96)).save(
        where / "0000_mask.png"
    )
    (error,) = texts(check(where, raw), "error")
    assert "do not number particles either" in error


def test_an_inverted_and_an_empty_mask(folder):
    where, raw = folder
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(where / "0000_mask.png")
    inverted = np.full((96, 96), 255, np.uint8)
    inverted[:10] = 0
    Image.fromarray(inverted).save(where / "0001_mask.png")
    report = check(where, raw)
    one_warning(report, "a mask without any particle")
    one_warning(report, "is it inverted?")


def test_the_same_image_twice(folder):
    where, raw = folder
    (where / "0003.png").write_bytes((where / "0001.png").read_bytes())
    (error,) = texts(check(where, raw), "error")
    assert "0001.png" in error
    assert "it could be trained on and tested" in error


def test_too_few_samples_for_the_folds(folder):
    where, raw = folder
    parameters = CurationParameters()
    table, findings = standardise_table(raw.assign(specimen_id=list("aabbbb")), parameters)
    inspected, measured = inspect_micrographs(
        table, findings, MicrographStore(where), parameters, LOW_HIGH
    )
    with pytest.raises(UserError) as caught:
        accept(table, inspected, measured, parameters, LOW_HIGH, 3)
    assert "for 3 folds" in three_lines(caught.value)


# --------------------------------------------------------------------------- what others raise
def raised(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: yaml.safe_load("a: [1\nb: 2"), "this is no valid YAML"),
        (lambda: yaml.safe_load("a:\n\tb: 2"), "no tabs"),
        (lambda: Path("/nowhere/at/all").read_text(), "/nowhere/at/all: there is no such file"),
        (lambda: Path("/").read_text(), "this is a folder"),
        (lambda: b"\xff".decode("utf-8"), "the byte 0xff"),
        (lambda: __import__("no_such_package"), "'no_such_package' is missing"),
        (lambda: [][1], "temshift does not know why"),
    ],
)
def test_errors_of_others(function, said):
    assert said in three_lines(raised(function))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "patches must have one size, found 32 and 64 px: give their splits the same patch_px",
            ("Patches must have one size", "Found 32 and 64 px", "Give their splits the same"),
        ),
        (
            "micrographs is 9, but there are 2 with a label: ask for fewer",
            ("Micrographs is 9", "There are 2 with a label", "Ask for fewer"),
        ),
        (
            "the network has no batch norm: choose another freeze",
            ("The network has no batch norm", "See above", "Choose another freeze"),
        ),
        (
            "the image is constant (0): there is nothing to standardise",
            ("The image is constant (0)", "There is nothing to", "Mend what is named there"),
        ),
        (
            "data/a.png: no micrograph. Put one there",
            ("data/a.png cannot be used", "No micrograph", "Put one there"),
        ),
        (
            "data/do-not-use/has it/a.tif: it is truncated",
            ("data/do-not-use/has it/a.tif cannot be used", "It is truncated", "Mend what is"),
        ),
        (
            "the image has values up to 1e+300, expected less: divide it by a constant",
            ("The image has values up to", "See above", "Divide it by a constant"),
        ),
        (
            "one fold says nothing",
            ("What was given cannot be used", "One fold says nothing", "Mend what is named"),
        ),
    ],
)
def test_messages_in_one_line(text, told):
    said = _of_text(text, "")
    assert [a.startswith(b) for a, b in zip(str(said).splitlines(), told, strict=True)] == [
        True
    ] * 3
    assert ("cannot be used" in said.what) == ("cannot be used" in told[0])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.h5"), "a.h5: the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "a.h5"), "a.h5: not allowed"),
        (OSError(errno.EIO, "Input/output error", "a.h5"), "temshift does not know why"),
    ],
)
def test_errors_of_the_disk(error, said):
    assert said in three_lines(error)


def test_an_environment_that_does_not_exist():
    error = raised(lambda: environment_exists(ROOT / "conf", "mien"))
    assert "did you mean 'mine'?" in three_lines(error)


def test_a_file_that_is_refused_is_named_with_the_key_of_its_pipeline(tmp_path, monkeypatch):
    numbered = np.zeros((64, 70), np.uint8)
    numbered[:5], numbered[20:25] = 1, 2
    grey = np.random.default_rng(0).integers(0, 255, (64, 70), np.uint8)
    for name, pixels in (("images/a.png", grey), ("masks/a.png", numbered)):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(pixels).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MicrographReadError) as caught:
        LabelledStore(tmp_path / "images", tmp_path / "masks").read("a.png")
    assert three_lines(caught.value) == (
        "masks/a.png cannot be used\n"
        "A mask must hold {0, 1} or {0, 255} only, found 3 values (0, 1, 2)\n"
        "If they number the particles, set fine_tuning.label_kind: instance"
    )


# --------------------------------------------------------------------------- the command line
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pipelines", "modeling"], "did you mean 'modelling'?"),
        (["--pipelins", "modelling"], "--pipelines"),
        (["--runner", "Sequential"], "did you mean 'SequentialRunner'?"),
        (["--runner-params", "forse=true"], "did you mean 'force'?"),
        (["--params", "modelling"], "must contain a key and a value"),
        (["--conf-source", "/nowhere"], "does not exist"),
        (["--config", "/nowhere.yml"], "does not exist"),
    ],
)
def test_arguments(arguments, said):
    from temshift.cli import cli

    result = CliRunner().invoke(cli, ["run", *arguments])
    assert result.exit_code != 0
    assert said in result.output
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--env mien", "did you mean 'mine'?"),
        ("--env smoke --tags low_dos", "did you mean 'low_dose'?"),
        ("--env smoke --tags au_2nm", "splits.au_2nm is declared, but no study names it"),
        ("--env smoke --to-outputs au_5nm_884e.networks", "splits.au_5nm_884e is declared, but"),
        ("--env smoke --params modeling.training.steps=3", "did you mean 'modelling'?"),
        ("--env mine --pipelines data_curation", "the metadata table is not there"),
    ],
)
def test_commands(tmp_path, arguments, said):
    """In a process of its own: three lines at the end, no traceback; it is in the log file."""
    import shutil

    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run", *arguments.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert said in output
    *_, what, found, remedy = done.stderr.splitlines()
    assert what.startswith("Error:  ")
    assert found.startswith("        ")
    assert remedy.startswith("Remedy: ")
    assert not [word for word in FOREIGN if word in what + found + remedy]
    assert "Traceback" not in output
    assert "Traceback" in (tmp_path / "info.log").read_text()


def test_a_misspelt_dataset():
    from kedro.io import MemoryDataset

    from temshift.catalog.study_catalog import StudyCatalog

    catalog = StudyCatalog({"generalization_reporting.reporting.gaps": MemoryDataset(1)})
    with pytest.raises(UserError, match=r"the nearest 'generalization_reporting\.reporting\.gaps'"):
        catalog.load("gaps")


def test_the_form_of_what_is_told(capsys):
    Told(UserError("a", "b", "c", ["before"])).show()
    assert capsys.readouterr().err == "before\nError:  a\n        b\nRemedy: c\n"
