"""conf/published: the paper's splits, studies and protocol, and what they select."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.config import OmegaConfigLoader
from tests.real_data import SHARED

from temshift import settings
from temshift.config.curation import CurationParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.published import DownloadParameters, ImportParameters
from temshift.study.splits import select_split
from temshift.study.tables import standardise_table

ROOT = Path(__file__).parents[1]
TABLE = SHARED / "published" / "Dataset_metadata.csv"
MODEL_LIST = SHARED / "published" / "model_details.csv"

#: Micrographs that each split of the paper selects from the study's table.
SELECTED = {
    "au_2p2nm_330kx_423e": 14,
    "au_5nm_330kx_423e": 8,
    "au_10nm_330kx_425e": 15,
    "au_5nm_330kx_80e": 10,
    "au_5nm_330kx_884e": 13,
    "ag_5nm_330kx_423e": 14,
    "cdse_5nm_330kx_421e": 11,
    "au_5nm_160kx_425e": 9,
    "au_5nm_205kx_420e": 6,
    "au_5nm_260kx_450e": 17,
    "au_5nm_260kx_450e_sess0821": 7,
    "au_5nm_260kx_450e_sess1021": 10,
    "au_5nm_sess1021": 15,
    "au_5nm_sess1022": 12,
    "au_5nm_sess1122": 14,
    "au_5nm_sess0821_raw": 8,
    "au_5nm_sess1021_raw": 15,
    "au_5nm_sess1022_raw": 12,
    "au_5nm_sess1122_raw": 14,
    "au_5nm_sin_330kx_423e": 18,
    "au_5nm_sin_260kx_442e": 17,
    "au_5nm_sin_205kx_420e": 17,
    "au_5nm_sin_160kx_418e": 16,
}


@pytest.fixture(scope="module")
def parameters():
    loader = OmegaConfigLoader(str(ROOT / "conf"), env="published", **settings.CONFIG_LOADER_ARGS)
    return loader["parameters"]


@pytest.fixture(scope="module")
def plan(parameters):
    return StudyPlan.from_parameters(parameters)


# --------------------------------------------------------------------------- protocol
def test_protocol_of_the_study(parameters):
    modelling = ModellingParameters.model_validate(parameters["modelling"])
    assert modelling.protocols == ["published", "grouped"]
    assert modelling.folds == 5
    assert modelling.architecture.name == "published_unet"
    training = modelling.training.model_dump()
    assert training["seeds"] == [962, 1662, 621, 72115, 45521]
    expected = {
        "epochs": 250,
        "steps": None,
        "batch_size": 32,
        "learning_rate": 1e-4,
        "schedule": "constant",
        "keep": "best",
        "crop_px": None,
        "background_threshold": 400,
    }
    assert {key: training[key] for key in expected} == expected
    assert modelling.augmentation.dihedral == "all"
    assert modelling.augmentation.rotate_probability == 0.5


def test_preprocessing_of_the_study(parameters):
    preprocessing = PreprocessingParameters.model_validate(parameters["preprocessing"])
    assert preprocessing.xray.method == "published"
    assert preprocessing.xray.threshold_counts == 1500
    assert preprocessing.xray.passes == 2
    assert preprocessing.flat_field.mode == "published"
    assert preprocessing.flat_field.downsample == 4
    assert preprocessing.standardise
    assert preprocessing.pixel_size_nm is None
    assert preprocessing.patch_px == 512
    assert preprocessing.shuffle_seed == 34522


def test_studies_of_the_paper(plan):
    studies = {name: set(study.splits) for name, study in plan.studies.items()}
    assert set(studies) == {
        "magnification",
        "dose",
        "diameter",
        "material",
        "support",
        "preprocessing",
    }
    assert studies["dose"] == {f"au_5nm_330kx_{dose}e" for dose in (80, 423, 884)}
    assert len(studies["magnification"]) == 4
    assert set(plan.used_splits) < set(SELECTED)  # nothing of the simulated study is left in use
    raw = [s for s in studies["preprocessing"] if s.endswith("_raw")]
    assert len(raw) == 4
    for name in raw:
        assert plan.splits[name].preprocessing == {"flat_field": {"mode": "none"}}
    noise = [plan.networks[n].augmentation["noise"] for n in plan.studies["dose"].networks]
    assert noise == [{"rho_max": 1.75}, {"rho": 0.875}]


def test_nothing_is_simulated_and_the_table_is_named(parameters):
    assert parameters["simulation"] is None
    assert DownloadParameters.model_validate(parameters["download"]).table == TABLE.name


def test_imported_networks_know_their_split(parameters, plan):
    imported = ImportParameters.model_validate(parameters["import_published"]).networks
    assert len(imported) == 10
    for name in imported:
        assert plan.networks[name].imported
        assert plan.networks[name].train_on == [name.removeprefix("published_")]


@pytest.mark.skipif(not MODEL_LIST.exists(), reason="the study's model list is not here")
def test_every_trained_set_of_the_model_list_is_imported(parameters):
    listed = pd.read_csv(MODEL_LIST)
    imported = parameters["import_published"]["networks"]
    assert sorted(listed["Dataset Trained On"].unique()) == sorted(imported.values())
    conditions = listed.drop_duplicates("Dataset Trained On").set_index("Dataset Trained On")
    for name, trained_set in imported.items():
        row = conditions.loc[trained_set]
        assert f"_{row['Np Diameter (nm)']:g}nm_".replace(".", "p") in name
        assert name.endswith(f"_{row['Dosage (e/A2)']}e")
        assert f"published_{row['Np Material'].lower()}_" in name


# --------------------------------------------------------------------------- selection
#: Conditions in a table of ours: material, diameter, support, pixel size, date, dose, shape, and
#: the splits that must select it. The i-th has i + 1 micrographs, so that counts tell them apart.
GROUPS = [
    ("Au", "2.2", "UT Carbon", "0.02", "10/06/21", 423, ["au_2p2nm_330kx_423e"]),
    ("Au", "2.2", "UT Carbon", "0.026", "10/06/21", 440, []),
    ("Au", "5.0", "UT Carbon", "0.02", "08/26/21", 423, [
        "au_5nm_330kx_423e", "au_5nm_sess0821_raw"]),
    ("Au", "5.0", "UT Carbon", "0.02", "10/06/21", 423, ["au_5nm_sess1021", "au_5nm_sess1021_raw"]),
    ("Au", "5.0", "UT Carbon", "0.02", "10/06/21", 840, []),
    ("Au", "5.0", "UT Carbon", "0.02", "10/25/22", 425, ["au_5nm_sess1022", "au_5nm_sess1022_raw"]),
    ("Au", "5.0", "UT Carbon", "0.02", "11/09/22", 421, ["au_5nm_sess1122", "au_5nm_sess1122_raw"]),
    ("Au", "5.0", "UT Carbon", "0.02", "06/15/22", 80, ["au_5nm_330kx_80e"]),
    ("Au", "5.0", "UT Carbon", "0.02", "06/15/22", 884, ["au_5nm_330kx_884e"]),
    ("Au", "5.0", "UT Carbon", "0.026", "08/26/21", 426, []),
    ("Au", "5.0", "UT Carbon", "0.026", "08/26/21", 447, []),
    ("Au", "5.0", "UT Carbon", "0.026", "08/26/21", 450, [
        "au_5nm_260kx_450e", "au_5nm_260kx_450e_sess0821"]),
    ("Au", "5.0", "UT Carbon", "0.026", "10/06/21", 450, [
        "au_5nm_260kx_450e", "au_5nm_260kx_450e_sess1021"]),
    ("Au", "5.0", "UT Carbon", "0.033", "08/26/21", 420, ["au_5nm_205kx_420e"]),
    ("Au", "5.0", "UT Carbon", "0.04", "10/06/21", 423, []),
    ("Au", "5.0", "UT Carbon", "0.042", "10/06/21", 425, ["au_5nm_160kx_425e"]),
    ("Au", "10.0", "UT Carbon", "0.02", "09/02/21", 425, ["au_10nm_330kx_425e"]),
    ("Au", "20.0", "UT Carbon", "0.02", "10/06/21", 423, []),
    ("Au", "5.0", "SiN", "0.02", "12/15/21", 423, ["au_5nm_sin_330kx_423e"]),
    ("Au", "5.0", "SiN", "0.026", "12/15/21", 442, ["au_5nm_sin_260kx_442e"]),
    ("Au", "5.0", "SiN", "0.033", "12/15/21", 420, ["au_5nm_sin_205kx_420e"]),
    ("Au", "5.0", "SiN", "0.042", "12/15/21", 418, ["au_5nm_sin_160kx_418e"]),
    ("Ag", "5.0", "UT Carbon", "0.02", "02/02/22", 423, ["ag_5nm_330kx_423e"]),
    ("Ag", "5.0", "UT Carbon", "0.042", "02/02/22", 418, []),
    ("CdSe", "5.0", "UT Carbon", "0.02", "01/23/23", 421, ["cdse_5nm_330kx_421e"]),
]  # fmt: skip


def own_table() -> pd.DataFrame:
    """A table in the study's form, whose file names repeat in every folder."""
    rows = [
        {
            "File name": f"{i:02d}_330kx.dm3",
            "Date": date,
            "Material": material,
            "Nanoparticle Size (nm)": diameter,
            "Nanoparticle Shape": "Oblong" if material == "CdSe" else "Sphere",
            "Support": support,
            "Instrument": "Team05",
            "Dosage (e/A2)": str(dose),
            "Pixel Scale (nm)": pixel,
            "Folder": f"{date.replace('/', '_')} {diameter}nm on {support}/{pixel} {dose}",
        }
        for n, (material, diameter, support, pixel, date, dose, _) in enumerate(GROUPS, start=1)
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def standard_table(raw, parameters):
    table, findings = standardise_table(
        raw, CurationParameters.model_validate(parameters["curation"])
    )
    assert findings.empty, findings
    return table


def test_each_split_selects_its_micrographs_from_a_table_of_ours(parameters, plan):
    table = standard_table(own_table(), parameters)
    expected = dict.fromkeys(SELECTED, 0)
    for n, (*_, splits) in enumerate(GROUPS, start=1):
        for split in splits:
            expected[split] += n
    selected = {name: len(select_split(table, name, plan.splits[name])) for name in SELECTED}
    assert selected == expected


def test_paths_are_composed_of_folder_and_name(parameters):
    table = standard_table(own_table(), parameters)
    last = table.iloc[-1]
    assert last["path"] == "01_23_23 5.0nm on UT Carbon/0.02 421/24_330kx.dm3"
    assert last["label_path"] == "01_23_23 5.0nm on UT Carbon/0.02 421/Labels/24_330kx_label.png"
    assert last["session"] == "2023-01-23"
    assert table["micrograph_id"].is_unique
    assert not table["path"].str.split("/").str[-1].is_unique


@pytest.mark.skipif(not TABLE.exists(), reason="the study's metadata table is not here")
def test_each_split_selects_its_micrographs_from_the_studys_table(parameters, plan):
    table = standard_table(pd.read_csv(TABLE, dtype=str, keep_default_na=False), parameters)
    assert len(table) == 407
    assert table["path"].str.split("/").str[-1].duplicated().sum() == 21
    selected = {name: len(select_split(table, name, plan.splits[name])) for name in SELECTED}
    assert selected == SELECTED
    used = pd.concat([select_split(table, n, plan.splits[n]) for n in plan.used_splits])
    assert used["path"].nunique() == 176  # 11 GB of the 30


def test_the_curated_sets_are_those_the_published_networks_were_trained_on(parameters):
    """``conf/curated`` repeats what it shares with ``conf/published``, since Kedro cannot."""
    loader = OmegaConfigLoader(str(ROOT / "conf"), env="curated", **settings.CONFIG_LOADER_ARGS)
    curated = loader["parameters"]
    plan = StudyPlan.from_parameters(curated)
    sets = ImportParameters.model_validate(curated["import_published"]).networks
    assert {f"published_{s}": f"{name}_Images" for s, name in plan.curated_splits.items()} == sets
    assert curated["networks"] == parameters["networks"]
    both = dict(curated["modelling"]), dict(parameters["modelling"])
    assert both[0].pop("protocols") == ["published"]
    assert both[1].pop("protocols") == ["published", "grouped"]
    assert both[0] == both[1]
    for name, study in plan.studies.items():
        assert study.model_dump(exclude_unset=True) | {"networks": study.networks} == parameters[
            "studies"
        ][name] | {"networks": study.networks}
    for split in plan.used_splits:  # and they are said to show what the micrographs show
        here, there = plan.splits[split].where, parameters["splits"][split]["where"]
        assert all(here[column] == there[column] for column in here.keys() & there.keys())


@pytest.mark.parametrize("env", ["local", "published", "curated"])
def test_one_place_for_copies_of_ones_own(env, tmp_path):
    shutil.copytree(ROOT / "conf" / "base", tmp_path / "base")
    if env == "local":
        (tmp_path / env).mkdir()
    else:
        shutil.copytree(ROOT / "conf" / env, tmp_path / env)
    text = yaml.safe_load((tmp_path / "base" / "globals.yml").read_text())
    text["published"]["sources"] = ["/my/copies"]
    (tmp_path / "base" / "globals.yml").write_text(yaml.safe_dump(text))
    loader = OmegaConfigLoader(
        conf_source=str(tmp_path),
        base_env="base",
        default_run_env=env,
        merge_strategy={"parameters": "soft", "globals": "soft"},
    )
    fetched = [d["download"] for d in loader["catalog"].values() if "download" in d]
    assert len(fetched) == {"local": 2, "published": 4, "curated": 3}[env]
    for download in fetched:
        assert download["sources"][0] == ["/my/copies"]
