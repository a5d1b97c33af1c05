"""Parameters: wrong ones are refused before any work, by messages that help."""

import pytest
from pydantic import ValidationError

from temshift.config.base import nearest
from temshift.config.modelling import ModellingParameters, NetworkParameters, Training
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.splits import SplitParameters

SPLITS = {name: {"where": {"dose_e_per_A2": dose}} for name, dose in (("low", 80), ("high", 884))}
STUDIES = {"dose": {"varies": "dose_e_per_A2", "splits": ["low", "high"]}}


def plan(**changes):
    return StudyPlan.from_parameters({"splits": SPLITS, "studies": STUDIES, **changes})


def test_rows_and_columns_follow_from_the_studies():
    p = plan(
        splits={**SPLITS, "unused": {"where": {"material": "Ag"}}},
        networks={"both": {"train_on": ["low", "high"]}, "theirs": {"imported": True}},
        studies={"dose": {**STUDIES["dose"], "networks": ["both", "theirs"]}},
    )
    assert p.used_splits == ["low", "high"]
    assert p.rows == ["low", "high", "both", "theirs"]
    assert p.trained == ["low", "high", "both"]
    assert p.train_on("both") == ["low", "high"]
    assert p.tested_on("both") == ["low", "high"]


def test_null_removes_what_an_environment_inherits():
    assert plan(studies={**STUDIES, "material": None}).rows == ["low", "high"]


def test_a_study_naming_an_unknown_split_lists_the_nearest():
    with pytest.raises(
        ValueError, match=r"studies.dose names the unknown split 'hihg'; did you mean 'high'"
    ):
        plan(studies={"dose": {"varies": "dose_e_per_A2", "splits": ["low", "hihg"]}})


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError, match="do not fit together") as error:
        plan(
            studies={
                "dose": {
                    "varies": "dose_e_per_A2",
                    "splits": ["low", "nope"],
                    "networks": ["missing"],
                }
            },
            networks={"low": {"train_on": ["high"]}},
        )
    for part in ("'nope'", "'missing'", "networks.low has the name of a split"):
        assert part in str(error.value)


def test_an_unknown_column_in_where_lists_the_nearest():
    with pytest.raises(
        ValidationError, match="unknown column 'dose_e_A2'; did you mean 'dose_e_per_A2'"
    ):
        SplitParameters(where={"dose_e_A2": 80})


def test_a_misspelt_key_is_refused():
    with pytest.raises(ValidationError, match="learning_rat"):
        Training(epochs=3, learning_rat=1e-3)


@pytest.mark.parametrize("epochs", [-3, 0])
def test_epochs_must_be_positive(epochs):
    with pytest.raises(ValidationError, match=r"epochs\n.*greater than 0"):
        Training(epochs=epochs)


def test_epochs_or_steps_but_not_both():
    with pytest.raises(ValidationError, match="exactly one of 'epochs' and 'steps'"):
        Training(epochs=3, steps=3)


def test_overrides_reach_into_blocks_and_are_validated():
    base = ModellingParameters(training=Training(steps=10))
    network = NetworkParameters(
        train_on=["low"],
        architecture={"name": "Unet", "encoder": "resnet18"},
        training={"learning_rate": 0.01},
        augmentation={"noise": {"rho_max": 1.75}},
    )
    merged = base.with_overrides(network)
    assert merged.architecture.encoder == "resnet18"
    assert (merged.training.steps, merged.training.learning_rate) == (10, 0.01)
    assert merged.augmentation.noise.rho_max == 1.75
    assert base.augmentation.noise is None
    with pytest.raises(ValidationError, match="learning_rate"):
        base.with_overrides(NetworkParameters(train_on=["low"], training={"learning_rate": -1}))


def test_epochs_of_a_network_replace_the_steps_of_the_defaults():
    base = ModellingParameters(training=Training(steps=10))
    merged = base.with_overrides(
        NetworkParameters(train_on=["low"], training={"epochs": 3, "steps": None})
    )
    assert (merged.training.epochs, merged.training.steps) == (3, None)


def test_a_split_changes_its_own_preprocessing():
    assert (
        PreprocessingParameters().with_overrides({"flat_field": {"mode": "none"}}).flat_field.mode
        == "none"
    )
    with pytest.raises(ValidationError, match="flat_feild"):
        SplitParameters(where={"material": "Au"}, preprocessing={"flat_feild": {}})


def test_more_folds_than_seeds():
    assert ModellingParameters(folds=6).protocols == ["grouped"], "which makes its seeds itself"
    with pytest.raises(ValidationError, match=r"6 folds of .*need as many training.seeds, found 5"):
        ModellingParameters(folds=6, protocols=["grouped", "published"])


def test_nearest_without_a_near_one_lists_all():
    assert nearest("zzz", ["b", "a"]) == "Valid: a, b"


def test_overrides_of_a_network_are_checked_when_the_plan_is_made():
    with pytest.raises(
        ValueError, match=r"networks.both does not fit 'modelling'.*\n.*learning_rat"
    ):
        plan(
            modelling={"training": {"steps": 5}},
            networks={"both": {"train_on": ["low", "high"], "training": {"learning_rat": 1}}},
        )


def test_keeping_the_best_needs_a_validation_set():
    with pytest.raises(ValidationError, match="needs 'hold_out: true'"):
        Training(steps=3, hold_out=False)
    assert not Training(steps=3, hold_out=False, keep="last").hold_out
