"""Datasets of the published study: saving fetches, loading contacts nothing."""

import logging

import numpy as np
import pytest
from kedro.io import DatasetError
from PIL import Image
from tests.dm3_writer import write_dm3
from tests.file_server import serve

from temshift.catalog.downloads import DownloadError
from temshift.catalog.published import (
    DownloadedMicrographsDataset,
    DownloadedTableDataset,
    WeightsDataset,
)

FOLDER = "2021_08_26 5nm Au nanoparticles on C/Ultrathin Carbon"


def options(*sources, **more):
    return {"sources": [*sources], "attempts": 2, "backoff_s": 0.01, **more}


@pytest.fixture
def server(tmp_path):
    (tmp_path / "remote").mkdir()
    with serve(tmp_path / "remote") as state:
        yield state


def test_a_table_is_fetched_by_saving_and_read_by_loading(tmp_path, server):
    (server.folder / "Dataset_metadata.csv").write_text("File name,Dosage (e/A2)\na.dm3,080\n")
    dataset = DownloadedTableDataset(
        str(tmp_path / "here" / "Dataset_metadata.csv"), options(server.url), {"dtype": str}
    )
    assert not dataset.exists()
    dataset.save("Dataset_metadata.csv")
    assert dataset.exists()
    server.requests.clear()
    table = dataset.load()
    assert table.to_dict("records") == [{"File name": "a.dm3", "Dosage (e/A2)": "080"}]
    dataset.save("Dataset_metadata.csv")
    assert server.requests == []
    with pytest.raises(DatasetError, match=r"keeps a table of this name, not 'other\.csv'"):
        dataset.save("other.csv")


def test_micrographs_arrive_in_a_store_that_reads_them(tmp_path, server, rng):
    image = rng.poisson(500, (96, 80)).astype(np.float32)
    label = (rng.random((96, 80)) > 0.5).astype(np.uint8)
    paths = [f"{FOLDER}/Au_01.dm3", f"{FOLDER}/Labels/Au_01_label.png"]
    for path in paths:
        (server.folder / path).parent.mkdir(parents=True, exist_ok=True)
    write_dm3(server.folder / paths[0], image, 0.033)
    Image.fromarray(label).save(server.folder / paths[1])

    dataset = DownloadedMicrographsDataset(str(tmp_path / "here"), options(server.url))
    dataset.save(paths)
    server.requests.clear()
    store = dataset.load()
    micrograph = store.read(paths[0])
    np.testing.assert_array_equal(micrograph.image, image)
    assert micrograph.pixel_size_nm == pytest.approx(0.033)
    np.testing.assert_array_equal(store.read_label(paths[1]), label)
    assert store.paths() == paths  # neither registry nor lock
    assert server.requests == []


def test_a_missing_micrograph_is_an_error_that_names_it(tmp_path, server):
    dataset = DownloadedMicrographsDataset(str(tmp_path / "here"), options(server.url))
    # Kedro wraps errors of save(); the message stays
    with pytest.raises(DatasetError, match=r"Au_01\.dm3: 404") as error:
        dataset.save([f"{FOLDER}/Au_01.dm3"])
    assert isinstance(error.value.__cause__, DownloadError)


def test_weight_files_are_found_whatever_their_case(tmp_path, server):
    (server.folder / "UNet_5nm_fold0_seed962_model.h5").write_bytes(b"weights")
    dataset = WeightsDataset(str(tmp_path / "here"), options(server.url))
    dataset.save(["Unet_5nm_fold0_seed962_model.h5"])  # as the model list spells it
    files = dataset.load()
    assert files.find("Unet_5NM_fold0_seed962_model.h5") == "UNet_5nm_fold0_seed962_model.h5"
    assert files.find("Unet_5nm_fold1_seed1662_model.h5") is None
    assert files.read("UNet_5nm_fold0_seed962_model.h5") == b"weights"


def test_missing_weight_files_are_told_and_asked_for_again(tmp_path, server, caplog):
    caplog.set_level(logging.WARNING)
    (server.folder / "UNet_a.h5").write_bytes(b"a")
    dataset = WeightsDataset(str(tmp_path / "here"), options(server.url))
    dataset.save(["Unet_a.h5", "Unet_b.h5"])
    assert "UNet_b.h5: 404" in caplog.text
    assert dataset.load().find("unet_a.h5") == "UNet_a.h5"
    assert not (tmp_path / "here" / ".complete").exists()  # so the runner fetches again
    (server.folder / "UNet_b.h5").write_bytes(b"b")
    dataset.save(["Unet_a.h5", "Unet_b.h5"])
    assert (tmp_path / "here" / ".complete").exists()


def test_a_weight_file_that_changed_is_an_error(tmp_path, server):
    (server.folder / "UNet_a.h5").write_bytes(b"a")
    dataset = WeightsDataset(str(tmp_path / "here"), options(server.url))
    dataset.save(["UNet_a.h5"])
    (tmp_path / "here" / "UNet_a.h5").write_bytes(b"x")
    with pytest.raises(DatasetError, match="has changed since it was fetched"):
        dataset.save(["UNet_a.h5"])
