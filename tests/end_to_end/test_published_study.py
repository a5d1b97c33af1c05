"""The published study in miniature: from a server that misbehaves to the report.

The environment is ``conf/published`` itself; only the sources, the sizes and the number of studies
are changed. The server has the layout of the study's repository.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from tests.dm3_writer import write_dm3
from tests.file_server import serve

ROOT = Path(__file__).parents[2]
SIDE, PATCH = 144, 64  # px: four patches, and a rest that is dropped

#: Folder, dose: six micrographs each, all of the same file names.
SESSIONS = [
    ("2022_06_15 5nm Au nanoparticle on UTC noise series/80e", 80),
    ("2022_06_15 5nm Au nanoparticle on UTC noise series/884e", 884),
]


def micrograph(rng: np.random.Generator, dose: int) -> tuple[np.ndarray, np.ndarray]:
    """Two bright discs on an uneven background with shot noise and an x-ray hit."""
    y, x = np.mgrid[:SIDE, :SIDE]
    label = np.zeros((SIDE, SIDE), bool)
    for centre in ((40, 40), (96, 100)):
        cy, cx = np.array(centre) + rng.integers(-8, 9, 2)
        label |= (y - cy) ** 2 + (x - cx) ** 2 < 20**2
    electrons = dose * (1 + 0.2 * x / SIDE) * np.where(label, 1.5, 1.0)
    image = rng.poisson(electrons).astype(np.float32)
    image[rng.integers(SIDE), rng.integers(SIDE)] += 20_000
    return image, label.astype(np.uint8)


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    """Twelve micrographs with masks, and a table that lists one more that no split selects."""
    folder = tmp_path_factory.mktemp("remote")
    rng = np.random.default_rng(1)
    rows = []
    for session, dose in SESSIONS:
        (folder / session / "Labels").mkdir(parents=True)
        for i in range(6):
            image, label = micrograph(rng, dose)
            name = f"Au_UTC_330kx_{i:02d}"
            write_dm3(folder / session / f"{name}.dm3", image, 0.02, energy_eV=300e3)
            Image.fromarray(label).save(folder / session / "Labels" / f"{name}_label.png")
            rows.append([f"{name}.dm3", "06/15/22", "Au", 5.0, "Sphere", dose, 0.02, session])
    rows.append(["not_there.dm3", "10/06/21", "Au", 20.0, "Sphere", 423, 0.02, "elsewhere"])
    columns = ["File name", "Date", "Material", "Nanoparticle Size (nm)", "Nanoparticle Shape"]
    table = pd.DataFrame(
        rows, columns=[*columns, "Dosage (e/A2)", "Pixel Scale (nm)", "Folder"]
    ).assign(Support="UT Carbon", Instrument="Team05")
    table.to_csv(folder / "Dataset_metadata.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def server(remote):
    with serve(remote) as state:
        yield state


@pytest.fixture(scope="module")
def project(tmp_path_factory, server):
    """A project folder of its own with a copy of the configuration, made small."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "src").mkdir()
    fetch = {"download": {"sources": [server.url], "backoff_s": 0.01, "attempts": 3}}
    others = ["magnification", "diameter", "material", "support", "preprocessing"]
    dose = {"splits": ["au_5nm_330kx_80e", "au_5nm_330kx_884e"], "networks": []}
    training = {"epochs": 1, "batch_size": 16, "background_threshold": 100}
    small = {
        "parameters_preprocessing.yml": {"preprocessing": {"patch_px": PATCH}},
        "parameters_modelling.yml": {
            "modelling": {"folds": 2, "device": "cpu", "training": training}
        },
        "parameters_data_curation.yml": {"studies": {"dose": dose, **dict.fromkeys(others)}},
        "parameters_generalization_reporting.yml": {"reporting": {"permutations": 100}},
    }
    change(
        folder / "conf" / "published",
        {
            **small,
            "catalog_data_curation.yml": {
                "data_curation.raw.metadata": fetch,
                "data_curation.raw.micrographs": fetch,
            },
        },
    )
    change(folder / "conf" / "curated", small)
    return folder


def change(environment: Path, files: dict[str, dict]) -> None:
    """Lay changes over the configuration files of an environment."""
    for name, changes in files.items():
        path = environment / name
        now = yaml.safe_load(path.read_text()) if path.exists() else {}
        path.write_text(yaml.safe_dump(merged(now, changes)))


def merged(base: dict, top: dict) -> dict:
    """Return ``base`` with ``top`` laid over it, blocks within blocks."""
    both = {**base}
    for key, value in top.items():
        inner = isinstance(value, dict) and isinstance(base.get(key), dict)
        both[key] = merged(base[key], value) if inner else value
    return both


def run(project: Path, *arguments: str, env: str = "published") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kedro", "run", "--env", env, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
def test_from_download_to_report(project, server, remote):
    here = project / "data" / "01_raw" / "published"
    first, last = (f"{session}/Au_UTC_330kx_05.dm3" for session, _ in SESSIONS)
    second = f"{SESSIONS[0][0]}/Au_UTC_330kx_04.dm3"

    # two files cannot be had: the run stops before anything is curated, and says which and why
    server.faults = {last: ["404*"], second: ["short*"]}
    failed = run(project, "--pipelines", "data_curation")
    assert failed.returncode != 0
    assert f"{last}: 404" in failed.stderr
    assert "check its folder and name in the metadata table" in failed.stderr
    assert f"{second}: " in failed.stderr
    assert "the server is broken. Run again later" in failed.stderr
    assert not (here / "micrographs" / last).exists()
    assert not (here / "micrographs" / second).exists()
    assert not list((project / "data").rglob("report.html"))

    # faults that pass: two breaks of the connection and an overloaded server
    (here / "micrographs" / first).unlink()
    server.faults = {first: ["reset", "truncated"], last: ["503", "503"]}
    server.requests.clear()
    done = run(project)
    assert done.returncode == 0, done.stderr
    # all else was there already
    assert sorted(set(server.asked("GET"))) == sorted([first, second, last])
    for path in remote.rglob("*.*"):
        local = here if path.suffix == ".csv" else here / "micrographs"
        assert (local / path.relative_to(remote)).read_bytes() == path.read_bytes()
    assert not list(here.rglob("*.part"))

    data = project / "data" / "published"
    table = pd.read_csv(data / "03_primary" / "micrographs.csv")
    assert len(table) == 12
    assert set(table["session"]) == {"2022-06-15"}
    results = pd.read_parquet(data / "07_model_output" / "results.parquet")
    assert set(results["protocol"]) == {"published", "grouped"}
    assert set(results["network"]) == {"au_5nm_330kx_80e", "au_5nm_330kx_884e"}
    assert results["dice"].between(0, 1).all()
    assert (data / "08_reporting" / "report.html").stat().st_size > 10_000
    assert json.loads((data / "08_reporting" / "results.json").read_text())

    # a file that is fetched again and has become another is not used, and what was made stays
    report = (data / "08_reporting" / "report.html").read_bytes()
    (here / "micrographs" / first).unlink()
    original = (remote / first).read_bytes()
    (remote / first).write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    failed = run(project)
    (remote / first).write_bytes(original)
    assert failed.returncode != 0
    assert f"{first}: " in failed.stderr
    assert "is not what was first fetched" in failed.stderr
    assert not (here / "micrographs" / first).exists()
    assert (data / "08_reporting" / "report.html").read_bytes() == report


@pytest.mark.slow
def test_curated_sets_skip_curation_and_preprocessing(project, server, tmp_path):
    sets = tmp_path / "sets"
    sets.mkdir()
    rng = np.random.default_rng(2)
    written = {}
    for name, dose in (
        ("Au_5nm_330kx_80e_Std_UTC_FFCorr_Team05", 80),
        ("Au_5nm_330kx_884e_Std_UTC_FFCorr_Team05", 884),
    ):
        images, labels = zip(*(micrograph(rng, dose) for _ in range(9)), strict=True)
        images = np.array(images)[:, 24 : 24 + PATCH, 24 : 24 + PATCH]
        images = (images - images.mean()) / images.std()
        labels = np.array(labels)[:, 24 : 24 + PATCH, 24 : 24 + PATCH]
        with h5py.File(sets / f"{name}_Images.h5", "w") as file:
            file.create_dataset("images", data=images, chunks=(1, PATCH, PATCH))
        with h5py.File(sets / f"{name}_Labels.h5", "w") as file:
            file["labels"] = labels[..., None]
        written[name] = images, labels

    # without a source, and with nothing put there by hand
    failed = run(project, env="curated")
    assert failed.returncode != 0
    assert "Au_5nm_330kx_80e_Std_UTC_FFCorr_Team05_Labels.h5: missing" in failed.stderr
    assert "name a source (an address or a folder): published.sources" in failed.stderr

    change(
        project / "conf" / "curated",
        {
            "globals.yml": {"published": {"sources": [str(sets)]}},
        },
    )
    done = run(project, env="curated")
    assert done.returncode == 0, done.stderr
    data = project / "data" / "curated"
    with h5py.File(data / "05_model_input" / "au_5nm_330kx_884e" / "patches.h5") as file:
        images, labels = written["Au_5nm_330kx_884e_Std_UTC_FFCorr_Team05"]
        np.testing.assert_array_equal(file["images"][:], images.astype(np.float32))
        np.testing.assert_array_equal(file["labels"][:], labels)
    results = pd.read_parquet(data / "07_model_output" / "results.parquet")
    assert set(results["protocol"]) == {"published"}
    own = results[(results["network"] == "au_5nm_330kx_80e") & results["in_domain"]]
    # each patch is tested by the fold that has not seen it
    assert own["n_patches"].sum() == 9
    splits = pd.read_csv(data / "08_reporting" / "splits.csv", index_col="split")
    assert splits.loc["au_5nm_330kx_80e", "dose_e_per_A2_min"] == 80
    assert (data / "08_reporting" / "report.html").stat().st_size > 10_000
