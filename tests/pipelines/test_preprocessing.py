"""The preprocessing pipeline, run from files to patches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from kedro.framework.project import configure_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro.validation.type_extractor import TypeExtractor
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import CSVDataset

from temshift.catalog.patch_stack import PatchStackDataset
from temshift.config.curation import CurationParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.splits import SplitParameters
from temshift.microscopy.micrograph import Micrograph
from temshift.pipelines.preprocessing import pipeline as module

SPLITS = ("dark", "bright", "unused")


class Memory:
    """A store without files."""

    def __init__(self, images):
        self.images = images

    def read(self, path):
        return Micrograph(self.images[path])

    def read_label(self, path, kind="binary"):
        assert kind == "instance"
        y, x = np.mgrid[0:128, 0:200]
        return ((y - 30) ** 2 + (x - 30) ** 2 < 15**2).astype(np.uint8)


@pytest.fixture
def pipeline(monkeypatch):
    plan = StudyPlan.from_parameters(
        {
            "splits": {name: {"where": {"material": "Au"}} for name in SPLITS},
            "studies": {"s": {"varies": "dose_e_per_A2", "splits": ["dark", "bright"]}},
        }
    )
    monkeypatch.setattr(module, "study_plan", lambda: plan)
    return module.create_pipeline()


@pytest.fixture
def catalog(tmp_path, rng):
    images = {f"m{i}": rng.poisson(400, (128, 200)).astype(np.uint16) for i in range(3)}
    table = pd.DataFrame(
        {
            "micrograph_id": list(images),
            "path": list(images),
            "label_path": list(images),
            "specimen_id": ["a", "b", "c"],
            "group": ["a", "b", "c"],
            "pixel_size_nm": 0.02,
            "height_px": 128,
            "width_px": 200,
            "fold": [0, 1, 2],
        }
    )
    entries = {
        "data_curation.raw.micrographs": MemoryDataset(Memory(images), copy_mode="assign"),
        "params:preprocessing": MemoryDataset(PreprocessingParameters(patch_px=64)),
        "params:curation": MemoryDataset(CurationParameters(label_kind="instance")),
    }
    for split in SPLITS:
        own = SplitParameters(
            where={"material": "Au"},
            preprocessing={"standardise": False} if split == "bright" else {},
        )
        entries[f"params:splits.{split}"] = MemoryDataset(own)
        micrographs = CSVDataset(
            filepath=str(tmp_path / f"{split}.csv"), save_args={"index": False}
        )
        micrographs.save(table)
        entries[f"{split}.micrographs"] = micrographs
        entries[f"{split}.patches"] = PatchStackDataset(filepath=str(tmp_path / f"{split}.h5"))
        entries[f"{split}.fingerprint"] = JSONDataset(filepath=str(tmp_path / f"{split}.json"))
    return DataCatalog(entries)


def test_only_used_splits_are_preprocessed_each_in_its_namespace(pipeline):
    assert {node.namespace for node in pipeline.nodes} == {"dark", "bright"}
    assert pipeline.outputs() == {"dark.fingerprint", "bright.fingerprint"}
    assert pipeline.inputs() == {
        "data_curation.raw.micrographs",
        "params:curation",
        "params:preprocessing",
        *(f"{split}.micrographs" for split in ("dark", "bright")),
        *(f"params:splits.{split}" for split in ("dark", "bright")),
    }


def test_runs_from_the_table_to_patches_and_fingerprints(pipeline, catalog):
    SequentialRunner().run(pipeline, catalog)
    dark, bright = (catalog.load(f"{split}.patches") for split in ("dark", "bright"))
    # the last of four patches in a row of 200 px overlaps the one before
    assert len(dark) == len(bright) == 3 * 2 * 4
    assert dark.attributes["split"] == "dark"
    # a split's own preprocessing reaches its patches: flat field without standardisation
    assert abs(dark.images.mean()) < 0.1
    assert bright.images.mean() == pytest.approx(1, abs=0.02)
    # empty patches stay: what to leave out is for training to say
    assert (dark.table["labelled_px"] == 0).sum() == 3 * 7
    found = catalog.load("dark.fingerprint")
    assert found["n_patches"] == 24
    assert found["diameter_nm"] == pytest.approx(30 * 0.02, rel=0.05)


def test_parameters_are_validated_before_any_node_runs(pipeline):
    found = TypeExtractor({"preprocessing": pipeline}).extract_types_from_pipelines()
    assert found == {
        "preprocessing": PreprocessingParameters,
        "curation": CurationParameters,
        "splits.dark": SplitParameters,
        "splits.bright": SplitParameters,
    }


def test_the_default_study_has_both_nodes_for_every_split():
    configure_project("temshift")
    names = {node.name for node in module.create_pipeline().nodes}
    used = module.study_plan().used_splits
    assert len(names) == 2 * len(used)
    assert {f"{used[0]}.preprocess", f"{used[0]}.fingerprint"} <= names
