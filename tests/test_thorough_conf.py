"""conf/thorough: the default study at full strength."""

from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from temshift import settings
from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.simulation import SimulationParameters

ROOT = Path(__file__).parents[1]


def load(env):
    loader = OmegaConfigLoader(str(ROOT / "conf"), env=env, **settings.CONFIG_LOADER_ARGS)
    return loader["parameters"], loader["globals"]["data"]


@pytest.fixture(scope="module")
def environments():
    return load("local"), load("thorough")


def test_it_is_the_default_study_with_more_of_everything(environments):
    (default, data), (thorough, own_data) = environments
    assert own_data != data, "its results lie apart"
    plans = [StudyPlan.from_parameters(p) for p in (default, thorough)]
    assert plans[0].studies.keys() == plans[1].studies.keys()
    for name, study in plans[0].studies.items():
        more = plans[1].studies[name]
        assert set(study.networks) <= set(more.networks), "all remedies of the default, and others"
        assert more.model_copy(update={"networks": study.networks}) == study
    assert plans[0].splits == plans[1].splits
    assert plans[0].networks.keys() < plans[1].networks.keys()
    simulation, full = (
        SimulationParameters.model_validate(p["simulation"]) for p in (default, thorough)
    )
    assert full.fields >= 24
    assert full.fields > simulation.fields
    assert full.model_copy(update={"fields": simulation.fields}) == simulation
    m, strong = (ModellingParameters.model_validate(p["modelling"]) for p in (default, thorough))
    assert strong.folds >= 6
    assert strong.folds > m.folds
    assert set(strong.protocols) == {"grouped", "published"}
    for network in plans[1].networks.values():
        assert strong.with_overrides(network).training.steps >= strong.training.steps
    pixels = [t.steps * t.batch_size * t.crop_px**2 for t in (m.training, strong.training)]
    assert pixels[1] > 10 * pixels[0]
    assert strong.training.seeds[:5] == [962, 1662, 621, 72115, 45521]
