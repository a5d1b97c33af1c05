"""Parameters: wrong ones are refused before any work, by messages that help."""

import pytest
from pydantic import ValidationError

from temshift.config.base import nearest, plain
from temshift.config.contract import CONTRACT, DERIVED
from temshift.config.curation import CurationParameters
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
    assert p.unused == ["splits.unused"]


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
        ValueError,
        match=r"splits.low.where names the unknown column 'dose_e_A2'; did you mean "
        "'dose_e_per_A2'",
    ):
        plan(splits={**SPLITS, "low": {"where": {"dose_e_A2": 80}}})


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


# ------------------------------------------------------------------ columns of the user's own
OWN = {
    "temperature_K": {"from": "Temp (K)", "type": "number", "unit": "K"},
    "grid_type": {"type": "text", "title": "grid", "confounds": False},
    "loaded_on": {"from": "{Year}-{Month}-01", "type": "date"},
}


def curation(**columns):
    return CurationParameters(columns=columns)


def test_own_columns_stand_behind_those_of_the_contract():
    parameters = curation(**OWN, dose_e_per_A2="Dose")
    assert list(parameters.contract) == [*CONTRACT, *OWN]
    temperature, grid, loaded = (parameters.contract[name] for name in OWN)
    assert (temperature.title, temperature.unit, temperature.numeric) == ("temperature", "K", True)
    assert temperature.phrase.format("295 K") == "at temperature 295 K"
    assert (grid.title, grid.confounds, grid.phrase.format("lacey")) == (
        "grid",
        False,
        "on grid lacey",
    )
    assert loaded.phrase.format("2024-01-01") == "on loaded on 2024-01-01"
    assert [parameters.source(c) for c in (*OWN, "dose_e_per_A2", "path")] == [
        *("Temp (K)", None, "{Year}-{Month}-01", "Dose", None)
    ]


def test_own_columns_survive_being_written_as_plain_values():
    parameters = curation(**OWN)
    assert CurationParameters.model_validate(plain(parameters)) == parameters
    assert plain(parameters)["columns"]["temperature_K"]["from"] == "Temp (K)"


def test_a_title_with_braces_is_a_title():
    column = curation(x={"type": "number", "title": "{tilt}"}).contract["x"]
    assert column.phrase.format("3 deg") == "at {tilt} 3 deg"


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("dose_A2", "Dose", "unknown column 'dose_A2'; did you mean 'dose_e_per_A2'"),
        ("dose_A2", "Dose", 'dose_A2: {from: "Dose", type: number}'),
        ("dose_e_per_A2", {"type": "number"}, "a column of the data contract, whose type"),
        ("Material", {"type": "text"}, "since 'material' has a meaning already"),
        ("fold", {"type": "number"}, "since 'fold' has a meaning already"),
        ("group", {"type": "text"}, "since 'group' has a meaning already"),
        ("preprocessing", {"type": "text"}, "since 'preprocessing' has a meaning already"),
        ("dice", {"type": "number"}, "since 'dice' has a meaning already"),
        ("temp (K)", {"type": "number"}, "letters, digits and _ are allowed"),
        ("2nd", {"type": "number"}, "letters, digits and _ are allowed"),
        ("tilt_min", {"type": "number"}, "choose another, e.g. min_tilt"),
        ("tilt", {"type": "numbr"}, r"columns.tilt.own.type\n.*'number', 'text' or 'date'"),
        ("tilt", {"from": "Tilt"}, r"columns.tilt.own.type\n.*Field required"),
        ("tilt", {"form": "Tilt", "type": "number"}, r"columns.tilt.own.form\n.*not permitted"),
    ],
)
def test_a_column_that_cannot_be_is_refused(name, entry, message):
    with pytest.raises(ValidationError, match=message.replace("{", r"\{").replace("(", r"\(")):
        curation(**{name: entry})


@pytest.mark.parametrize("taken", [*DERIVED])
def test_no_column_that_curation_adds_can_be_declared(taken):
    with pytest.raises(ValidationError, match="has a meaning already"):
        curation(**{taken: {"type": "text"}})


def test_constants_may_fill_own_columns_but_no_unknown_ones():
    CurationParameters(columns=OWN, constants={"temperature_K": 295})
    with pytest.raises(ValidationError, match="'temprature_K'; did you mean 'temperature_K'"):
        CurationParameters(columns=OWN, constants={"temprature_K": 295})


def test_null_removes_a_column_that_an_environment_inherits():
    left = curation(**{**OWN, "grid_type": None, "material": None})
    assert list(left.columns) == ["temperature_K", "loaded_on"]


def test_splits_and_studies_may_use_declared_columns_only():
    splits = {
        "cold": {"where": {"temperature_K": {"max": 100}}},
        "warm": {"where": {"temperature_K": 295, "grid_type": ["lacey"]}},
    }
    studies = {"temperature": {"varies": "temperature_K", "splits": ["cold", "warm"]}}
    declared = plan(splits=splits, studies=studies, curation={"columns": OWN})
    assert [c.name for c in declared.confounding][-2:] == ["temperature_K", "loaded_on"]
    with pytest.raises(ValueError, match="do not fit together") as error:
        plan(splits=splits, studies=studies)
    for part in (
        "splits.cold.where names the unknown column 'temperature_K'",
        "splits.warm.where names the unknown column 'grid_type'",
        "studies.temperature.varies names the unknown column 'temperature_K'",
        "A column of your own must be declared in curation.columns with its type",
    ):
        assert part in str(error.value)
    misspelt = {**splits, "cold": {"where": {"temprature_K": {"max": 100}}}}
    with pytest.raises(ValueError, match="'temprature_K'; did you mean 'temperature_K'"):
        plan(splits=misspelt, studies=studies, curation={"columns": OWN})


def test_a_range_of_text_is_refused():
    with pytest.raises(
        ValueError,
        match=r"splits.low.where asks for the range .* of 'grid_type', which holds texts",
    ):
        plan(
            splits={**SPLITS, "low": {"where": {"grid_type": {"min": 3}}}},
            curation={"columns": OWN},
        )


def test_a_study_is_headed_by_its_title_else_by_its_name():
    studies = {**STUDIES, "dose_and_session": {**STUDIES["dose"], "title": "Dose (e/Å²)"}}
    p = plan(studies={**studies, "low_dose": STUDIES["dose"]})
    assert [p.title(study) for study in p.studies] == ["Dose", "Dose (e/Å²)", "Low dose"]


# ------------------------------------------------------------------ transfer
def transfer(**networks):
    rows = list(networks)
    return plan(
        networks=networks,
        studies={"dose": {**STUDIES["dose"], "networks": rows}},
        modelling={"training": {"steps": 5}},
    )


def test_a_network_may_start_from_another_row():
    p = transfer(
        moved={"train_on": ["low"], "initial": "high", "freeze": "encoder"},
        again={"train_on": ["low"], "initial": "moved"},
    )
    assert [p.initial(name) for name in ("low", "moved", "again")] == [None, "high", "moved"]
    assert p.seen("again") == ["low", "high"], "no guest of what its weights have seen"


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({"a": {"train_on": ["low"], "initial": "hihg"}}, "row of no study; did you mean 'high'"),
        ({"a": {"train_on": ["low"], "initial": "a"}}, "leads back to itself: a from a"),
        (
            {
                "a": {"train_on": ["low"], "initial": "b"},
                "b": {"train_on": ["low"], "initial": "a"},
            },
            "leads back to itself: a from b from a",
        ),
        (
            {"a": {"train_on": ["low"], "initial": "high", "architecture": {"name": "Unet"}}},
            "a network of another architecture",
        ),
        ({"a": {"train_on": ["low"], "freeze": "encoder"}}, "name it as 'initial'"),
        ({"a": {"imported": True, "initial": "low"}}, "is not trained"),
        (
            {
                "b": {"weights_of": "low", "adaptation": {"batch_norm": True}},
                "a": {"train_on": ["low"], "initial": "b"},
            },
            "has no weights of its own: name 'low'",
        ),
    ],
)
def test_what_a_network_cannot_start_from(networks, message):
    with pytest.raises(ValueError, match=message):
        transfer(**networks)
