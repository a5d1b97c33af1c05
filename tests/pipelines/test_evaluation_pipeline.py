import numpy as np
import pandas as pd
import pytest
from tests import synthetic_study as synthetic
from tests.network_cards import network_card

from temshift.config.evaluation import EvaluationParameters
from temshift.config.modelling import ModellingParameters
from temshift.learning.network_set import TrainedNetwork, network_key
from temshift.microscopy.patches import PatchStack
from temshift.pipelines import evaluation
from temshift.pipelines.evaluation import nodes


@pytest.fixture
def pipeline(monkeypatch):
    monkeypatch.setattr(evaluation.pipeline, "study_plan", synthetic.plan)
    return evaluation.create_pipeline()


def test_each_network_is_tested_in_its_namespace_on_the_splits_of_its_studies(pipeline):
    tests = {n.namespace: n for n in pipeline.nodes if n.short_name.endswith("evaluate")}
    assert set(tests) == set(synthetic.plan().rows)
    assert {i for i in tests["high_noise"].inputs if i.endswith(".patches")} == {
        f"{split}.patches" for split in ("low", "mid", "high")
    }
    assert tests["mid"].outputs == ["mid.results", "mid.examples"]


def test_imported_networks_need_no_history(monkeypatch):
    parameters = {
        **synthetic.PARAMETERS,
        "networks": {"high_noise": {"train_on": ["high"], "imported": True}},
    }
    monkeypatch.setattr(evaluation.pipeline, "study_plan", lambda: synthetic.plan(parameters))
    pipeline = evaluation.create_pipeline()
    assert "high_noise.results" in pipeline.datasets()
    assert "high_noise.history" not in pipeline.datasets()
    assert nodes.collect_histories().columns[0] == "network"


def test_evaluation_of_untrained_networks():
    from temshift.learning.networks import build_network

    def stack(split):
        pictures = [synthetic.picture(seed, 32) for seed in range(4)]
        images, labels = (np.stack(part) for part in zip(*pictures, strict=True))
        table = pd.DataFrame(
            {
                "micrograph_id": [f"{split}/{i // 2}" for i in range(4)],
                "specimen_id": ["s0", "s0", "s1", "s1"],
                "group": ["s0", "s0", "s1", "s1"],
                "row": 0,
                "column": [0, 32, 0, 32],
                "labelled_px": labels.sum(axis=(1, 2)),
                "fold": [0, 0, 1, 1],
            }
        )
        return PatchStack(images, labels, table)

    networks = {
        network_key("grouped", fold): TrainedNetwork(
            build_network("published_unet").state_dict(),
            network_card(fold=fold, folds=2),
        )
        for fold in range(2)
    }
    results, examples = nodes.evaluate(
        "a",
        networks,
        ModellingParameters(device="cpu", folds=2),
        EvaluationParameters(batch_size=2),
        **{"a.patches": stack("a"), "b.patches": stack("b")},
    )
    assert len(results) == 2 * 2
    assert set(results["test_split"]) == {"a", "b"}
    assert results.set_index("test_split").loc["a", "in_domain"].all()
    assert {e.rank for e in examples} == {"best", "worst"}
