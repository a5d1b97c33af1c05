"""The import pipeline: from a model list and weight files to network sets, wherever they are."""

import io
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro_datasets.pandas import CSVDataset
from tests.file_server import serve
from tests.real_data import SHARED

from temshift.catalog.networks import NetworksDataset
from temshift.catalog.published import DownloadedTableDataset, WeightsDataset
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.published import ImportParameters
from temshift.learning.networks import PublishedUNet
from temshift.learning.published_networks import MODEL_LIST_COLUMNS, import_networks
from temshift.learning.published_weights import PublishedWeightsError
from temshift.pipelines.import_published import create_pipeline

SEEDS = [962, 1662, 621, 72115, 45521]
SETS = {"published_au_5nm_330kx_423e": "Au_5nm_Images", "published_ag_5nm_330kx_423e": "Ag_Images"}
PUBLISHED = SHARED / "published"


def model_list() -> pd.DataFrame:
    rows = [
        (f"Unet_5nm{metal}_fold{i}_seed{seed}_model.h5", i, trained_set, 5, metal, 0.02, 423)
        for metal, trained_set in (("Au", "Au_5nm_Images"), ("Ag", "Ag_Images"))
        for i, seed in enumerate(SEEDS)
    ]
    return pd.DataFrame(rows, columns=list(MODEL_LIST_COLUMNS))


def weights(seed: int) -> tuple[bytes, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    state = PublishedUNet().state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue(), state


@pytest.fixture
def server(tmp_path):
    """The model list and the weights of all folds on Au and the first on Ag."""
    remote = tmp_path / "remote"
    remote.mkdir()
    model_list().to_csv(remote / "model_details.csv", index=False)
    for i, seed in enumerate(SEEDS):
        (remote / f"UNet_5nmAu_fold{i}_seed{seed}_model.h5").write_bytes(weights(seed)[0])
    (remote / "UNet_5nmAg_fold0_seed962_model.h5").write_bytes(weights(1)[0])
    with serve(remote) as state:
        yield state


@pytest.fixture
def catalog(tmp_path, server):
    here = tmp_path / "here"
    download = {"sources": [server.url], "attempts": 2, "backoff_s": 0.01}
    networks = {
        "published_au_5nm_330kx_423e": {"imported": True, "train_on": ["au_5nm_330kx_423e"]},
        "published_ag_5nm_330kx_423e": {"imported": True},
    }
    return DataCatalog(
        {
            "import_published.raw.model_list": DownloadedTableDataset(
                str(here / "model_details.csv"), download
            ),
            "import_published.raw.weights": WeightsDataset(str(here), download),
            "import_published.reporting.weights": CSVDataset(
                filepath=str(tmp_path / "weights.csv"), save_args={"index": False}
            ),
            **{
                f"{name}.networks": NetworksDataset(str(tmp_path / "models" / name))
                for name in SETS
            },
            "params:import_published": MemoryDataset(
                ImportParameters(model_list="model_details.csv", networks=SETS)
            ),
            "params:networks": MemoryDataset(networks),
        }
    )


@pytest.fixture
def pipeline(monkeypatch):
    from temshift.pipelines.import_published import pipeline

    parameters = {"import_published": {"networks": SETS}}
    monkeypatch.setattr(pipeline, "project_parameters", lambda: parameters)
    return create_pipeline()


def test_weights_are_fetched_converted_and_reported(catalog, pipeline):
    SequentialRunner().run(pipeline, catalog)
    networks = catalog.load("published_au_5nm_330kx_423e.networks")
    assert list(networks) == [f"published_fold{i}" for i in range(5)]
    conf = Path(__file__).parents[2] / "conf" / "published" / "parameters_preprocessing.yml"
    published = PreprocessingParameters(**yaml.safe_load(conf.read_text())["preprocessing"])
    for i, seed in enumerate(SEEDS):
        trained = networks[f"published_fold{i}"]
        expected = weights(seed)[1]
        assert all(torch.equal(trained.state[k], v) for k, v in expected.items())
        card = trained.card
        assert (card.fold, card.folds, card.seed) == (i, 5, seed)
        assert card.protocol == "published"
        assert card.train_on == ["au_5nm_330kx_423e"]
        assert (card.pixel_size_nm, card.dose_e_per_A2) == (0.02, 423.0)
        assert (card.material, card.diameter_nm) == ("Au", 5.0)
        assert card.preprocessing == published
        x = torch.ones(1, 1, 32, 32)
        reference = PublishedUNet()
        reference.load_state_dict(expected)
        with torch.no_grad():
            assert torch.equal(trained.build()(x), reference.eval()(x))

    assert list(catalog.load("published_ag_5nm_330kx_423e.networks")) == ["published_fold0"]
    report = catalog.load("import_published.reporting.weights")
    assert len(report) == 10
    assert (report["status"] == "imported").sum() == 6
    missing = report.loc[report["status"] == "missing", "file"]
    assert missing.iloc[0] == "UNet_5nmAg_fold1_seed1662_model.h5"


def test_a_malicious_weight_file_is_refused_and_nothing_is_saved(
    tmp_path, server, catalog, pipeline, monkeypatch
):
    import os
    import zipfile

    monkeypatch.chdir(tmp_path)
    name = "UNet_5nmAg_fold0_seed962_model.h5"
    with zipfile.ZipFile(server.folder / name, "w") as archive:
        archive.writestr("archive/data.pkl", b"cposix\nsystem\n(X\x0b\x00\x00\x00touch pwnedtR.")
    with pytest.raises(PublishedWeightsError, match=rf"{name}: .*asks for posix\.system"):
        SequentialRunner().run(pipeline, catalog)
    assert not os.path.exists("pwned")
    assert not (tmp_path / "models").exists()


class _Files(dict):
    def find(self, name):
        return {key.lower(): key for key in self}.get(name.lower())

    def read(self, name):
        return self[name]


def test_without_any_weight_file_it_says_what_to_do():
    with pytest.raises(ValueError, match=r"none of the 10 weight files.*put them into the folder"):
        import_networks(model_list(), _Files(), SETS, {})


def test_a_wrong_model_list_or_set_is_an_error_with_the_nearest_name():
    with pytest.raises(ValueError, match="lacks the column 'Fold'"):
        import_networks(model_list().drop(columns="Fold"), _Files(), SETS, {})
    with pytest.raises(ValueError, match="did you mean 'Au_5nm_Images'"):
        import_networks(model_list(), _Files(), {"x": "Au_5nm_Image"}, {})


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the study's weight files are not here")
def test_three_of_the_studys_fifty_files_are_imported():
    files = _Files({p.name: p.read_bytes() for p in (PUBLISHED / "weights").glob("*.h5")})
    listed = pd.read_csv(PUBLISHED / "model_details.csv")
    sets = {
        "published_au_5nm_330kx_423e": "Au_5nm_330kx_423e_UTC_Team05_Std_Sess0821FFCorr_Images",
        "published_au_5nm_330kx_884e": "Au_5nm_330kx_884e_Std_UTC_FFCorr_Team05_Images",
        "published_au_10nm_330kx_425e": "Au_10nm_330kx_425e_Std_UTC_FFCorr_Team05_Images",
    }
    networks, report = import_networks(listed, files, sets, {})
    assert {name: list(found) for name, found in networks.items()} == {
        "published_au_5nm_330kx_423e": ["published_fold0"],
        "published_au_5nm_330kx_884e": ["published_fold0"],
        "published_au_10nm_330kx_425e": ["published_fold3"],
    }
    assert len(report) == 15
