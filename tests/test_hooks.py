"""What is asked before the first node runs."""

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from temshift.config.modelling import ModellingParameters, Training
from temshift.hooks import ProjectHooks

TRAINING = Pipeline([Node(lambda modelling: modelling, "params:modelling", "out", name="train")])


def ask(pipeline: Pipeline, device: str) -> None:
    modelling = ModellingParameters(device=device, training=Training(epochs=1))
    catalog = DataCatalog({"params:modelling": MemoryDataset(modelling)})
    ProjectHooks().before_pipeline_run({}, pipeline, catalog)


def test_an_absent_device_is_refused_before_the_run():
    with pytest.raises(ValueError, match=r"modelling\.device is 'cuda:99'"):
        ask(TRAINING, "cuda:99")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_what_every_machine_has_is_not_asked_for(device):
    ask(TRAINING, device)


def test_pipelines_that_compute_nothing_on_it_do_not_care():
    other = Pipeline([Node(lambda x: x, "table", "out", name="other")])
    ask(other, "cuda:99")
