"""Trials of a sweep over the amount of training, from files to the curve on the page."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from temshift.catalog.micrographs import MicrographStore
from temshift.catalog.sweeps import SweepStore
from temshift.config.curation import CurationParameters
from temshift.config.errors import UserError
from temshift.config.modelling import ModellingParameters
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.splits import SplitParameters
from temshift.config.sweep import SweepParameters
from temshift.pipelines.sweep.nodes import report
from temshift.runner.trials import Sweep, _check, run_sweep

pytest.importorskip("optuna")


def micrographs(folder, name, dose, seed):
    """Six specimens with a disc each, 64 px, in three folds."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    rows = []
    for i in range(6):
        disc = (y - rng.integers(24, 40)) ** 2 + (x - rng.integers(24, 40)) ** 2 < 15**2
        np.save(folder / f"{name}{i}.npy", rng.poisson(np.where(disc, dose, dose / 2)))
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / f"{name}{i}.png")
        rows.append(
            {
                **{"micrograph_id": f"{name}{i}", "path": f"{name}{i}.npy"},
                **{"label_path": f"{name}{i}.png", "specimen_id": f"s{i}", "group": f"s{i}"},
                **{"pixel_size_nm": 0.02, "height_px": 64, "width_px": 64, "fold": i % 3},
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture
def make_sweep(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    tables = {
        "high": micrographs(data, "high", 900, 1),
        "low": micrographs(data, "low", 90, 2),
    }
    training = {"steps": 2, "batch_size": 2, "crop_px": 32, "keep": "last", "learned_above": 0.0}
    split = SplitParameters.model_validate({"where": {"material": "Au"}})

    def made(groups):
        sweep = {"train_on": ["high"], "also_on": ["low"]}
        return Sweep(
            SweepParameters(**sweep, space={"modelling.training.groups": groups}),
            ModellingParameters.model_validate(
                {"device": "cpu", "precision": "float32", "folds": 3, "training": training}
            ),
            PreprocessingParameters(patch_px=64),
            CurationParameters(),
            dict.fromkeys(tables, split),
            ["high"],
            tables,
            MicrographStore(data),
        )

    return made


def test_a_learning_curve_in_and_out_of_the_domain(make_sweep, tmp_path):
    sweep = make_sweep([1, None])
    scores = run_sweep(sweep, SweepStore(tmp_path / "sweep"))
    assert scores["training_groups"].tolist() == [3] * 3 + [1] * 3 + [3] * 3
    assert scores["dice_on_low"].between(0, 1).all()
    table, curve, page = report(scores, sweep.parameters)
    assert len(table) == 3
    assert curve["amount"].tolist() == [1, 3] * 2
    assert curve["tested_on"].unique().tolist() == ["held out, in domain", "low"]
    expected = scores.groupby("trial")["dice_on_low"].mean()
    assert curve["dice"].tolist()[2:] == pytest.approx([expected["0000"], expected["0001"]])
    assert page.count("<svg") == 2
    assert "from 1 to 3 training groups" in page
    manifest = next((tmp_path / "sweep").glob("*/0000/manifest.json"))
    said = json.loads(manifest.read_text())
    assert (said["train_on"], said["also_on"]) == (["high"], ["low"])

    # all groups are what the defaults are trained on: the same weights, the same Dice
    whole = scores[scores["trial"] == "0001"]["validation_dice"].tolist()
    assert whole == scores[scores["trial"] == "defaults"]["validation_dice"].tolist()


def test_a_corrected_mask_makes_another_sweep_and_other_patches(make_sweep, tmp_path):
    first, store = make_sweep([1]), SweepStore(tmp_path / "sweep")
    run_sweep(first, store)
    assert make_sweep([1]).name == first.name
    again = replace(first)
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(first.store.folder / "high0.png")
    assert again.name != first.name
    run_sweep(again, store)
    cut = {file.read_bytes() for file in store.folder.glob("patches/*/high/patches.h5")}
    assert len(cut) == 2


def test_every_value_that_decides_what_is_trained_is_checked_however_many_others_vary(make_sweep):
    sweep = make_sweep([1, 4])
    many = {
        **sweep.parameters.space,  # runs slowest: the first thousand would never leave 1
        "modelling.training.learning_rate": [0.001 * i for i in range(1, 41)],
        "modelling.training.foreground": [0.01 * i for i in range(40)],
    }
    wide = replace(sweep, parameters=sweep.parameters.model_copy(update={"space": many}))
    with pytest.raises(UserError, match=r"training\.groups: 4"):
        _check(wide)


def test_more_groups_than_there_are_are_refused_before_the_first_trial(make_sweep, tmp_path):
    with pytest.raises(UserError, match=r"training\.groups: 4"):
        run_sweep(make_sweep([1, 4]), SweepStore(tmp_path / "sweep"))
    assert not (tmp_path / "sweep").exists()


def test_a_damaged_record_of_the_trials_is_named_and_may_be_deleted(tmp_path):
    store, file = SweepStore(tmp_path), tmp_path / "trials.sqlite"
    study = store.study("sweep")
    study.tell(study.ask(), 0.5)
    whole = file.read_bytes()
    for content in (b"\x80\x04junk" * 300, whole[: len(whole) // 2], whole[:100]):
        file.write_bytes(content)
        with pytest.raises(UserError) as caught:
            store.study("sweep")
        assert caught.value.what == f"{file}: the record of the trials is damaged"
        assert "Delete it and repeat the command" in caught.value.remedy
    file.write_bytes(whole)
    assert len(store.study("sweep").trials) == 1
