"""What of a sweep does not fit is told before anything runs."""

import pytest
import yaml
from tests.synthetic_study import PARAMETERS

from temshift.config.check import check_parameters
from temshift.config.errors import UserError
from temshift.config.modelling import ModellingParameters
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.sweep import SweepParameters, laid_over


def parameters(text: str) -> dict:
    sweep = {"train_on": ["high"], "method": "tpe", "trials": 2, **yaml.safe_load(text)}
    return {**PARAMETERS, "curation": {}, "evaluation": {}, "sweep": sweep}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space: {modelling.training.learning_rat: [1]}", "did you mean 'learning_rate'"),
        ("space: {modelling.training.learning_rate: [-1.0]}", "greater than 0"),
        ("space: {modelling.folds: [2, 3]}", "all trials are judged in the same folds"),
        ("space: {modelling.training.hold_out: [true]}", "it is always true"),
        ("space: {modelling.training: [{}]}", "itself decides on modelling.training.hold_out"),
        ("space: {modelling: [2]}", "a key such as modelling.training.learning_rate"),
        ("space: {evaluation.batch_size: [2]}", "a key such as modelling.training.learning_rate"),
        ("space: {train_on: [[low]]}", "expected each to hold ['high'] (sweep.train_on)"),
        ("space: {train_on: [[hihg]]}", "expected lists of low, mid, high"),
        ("space: {train_on: {min: 1, max: 2}}", "expected lists of low, mid, high"),
        ("space: {modelling.training.crop_px: [40]}", "multiple of 16"),
        ("space: {modelling.training.steps: {min: 9, max: 3}}", "must be below"),
        ("space: {modelling.training.steps: {min: 0, max: 3, log: true}}", "a 'min' above 0"),
        ("space: {modelling.training.epochs: [3]}", "exactly one of 'epochs' and 'steps'"),
        ("space: {}", "at least one key"),
        ("{trials: null, space: {preprocessing.standardise: [true]}}", "needs a number of"),
        ("{method: grid, space: {preprocessing.patch_px: {min: 64, max: 96}}}", "is a range"),
        ("{also_on: [lwo], space: {preprocessing.standardise: [true]}}", "'lwo'"),
        ("{also_on: [high], space: {preprocessing.standardise: [true]}}", "are trained on"),
        ("{also_on: [low], space: {train_on: [[high, low]]}}", "are trained on"),
        ("{train_on: null, also_on: [low], space: {train_on: [[high]]}}", "give both"),
        ("space: {modelling.training.groups: [0]}", "greater than 0"),
        ("{train_on: [hihg], space: {preprocessing.standardise: [true]}}", "'hihg'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(text, message):
    with pytest.raises(UserError) as error:
        check_parameters(parameters(text))
    assert message in str(error.value)
    assert "sweep" in error.value.what


STEPS = "sweep.space.modelling.training.steps"


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ("{min: 3, max: 2}", STEPS, "'min' (3) must be below 'max' (2)"),
        ("[2, 2]", STEPS, "Found [2, 2]: 2 stands there twice; expected each once"),
        ("[]", STEPS, "expected at least 1 entries"),
        ("2", STEPS, "Found 2; expected a list of values, such as [1, 2], or a range {min, max}"),
        ("{min: 0.001, max: .inf}", f"{STEPS}.max", "Found inf; expected a finite number"),
        ("{min: 1}", f"{STEPS}.max", "this key must be given"),
        ("{min: 1, max: many}", f"{STEPS}.max", "Found 'many'; expected a whole number"),
        ("{min: 1, max: 2, step: 1}", f"{STEPS}.step", "expected one of log, max, min"),
    ],
)
def test_of_a_list_or_a_range_the_real_reason_is_told_alone(values, key, message):
    with pytest.raises(UserError) as error:
        check_parameters(parameters(f"space: {{modelling.training.steps: {values}}}"))
    assert error.value.what == f"The parameter {key!r} is not valid"
    assert message in error.value.found
    assert not error.value.details


def test_what_fits_is_accepted():
    check_parameters(
        parameters(
            "space: {modelling.augmentation.noise: [null, {rho_max: 1.75}], "
            "preprocessing.flat_field.mode: [none, background], train_on: [[high], [high, low]], "
            "modelling.architecture: [{name: published_unet}, {name: Unet, encoder: resnet18}], "
            "modelling.training.learning_rate: {min: 1.0e-3, max: 1.0e-2, log: true}}"
        )
    )


def test_settings_are_laid_over_together():
    """Epochs instead of steps are two settings, neither of which fits alone."""
    modelling = ModellingParameters.model_validate(
        {"training": {"steps": 4, "hold_out": False, "keep": "last"}}
    )
    both = {"modelling.training.epochs": 2, "modelling.training.steps": None}
    trial, same = laid_over(both, modelling, PreprocessingParameters())
    assert (trial.training.epochs, trial.training.steps) == (2, None)
    assert trial.training.hold_out, "a trial is judged by what is held out"
    assert same == PreprocessingParameters()


def test_an_environment_removes_a_key_by_null():
    sweep = SweepParameters(space={"a": [1], "b": None})
    assert list(sweep.combinations()) == [{"a": 1}]


def test_combinations_of_some_keys_hold_what_is_in_them_and_blocks_around_them():
    space = {"modelling.architecture": [{}], "modelling.architecture.name": [1, 2]}
    space |= {"modelling.training.steps": [1, 2, 3], "train_on": [["a"]]}
    sweep = SweepParameters(space=space)
    found = list(sweep.combinations(["modelling.architecture.name", "train_on"]))
    assert [sorted(one) for one in found] == [
        ["modelling.architecture", "modelling.architecture.name", "train_on"]
    ] * 2
