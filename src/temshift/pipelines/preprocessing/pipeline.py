"""Wiring of the preprocessing pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind
from temshift.context import study_plan
from temshift.pipelines.preprocessing.nodes import (
    adopt_curated_set,
    fingerprint_split,
    preprocess_split,
)


def create_pipeline() -> Pipeline:
    """Patches and fingerprint of every split that is used, in the split's namespace."""
    plan = study_plan()
    nodes = []
    for split in plan.used_splits:
        nodes += [
            _adopt(split) if split in plan.curated_splits else _preprocess(split),
            Node(
                fingerprint_split,
                inputs=f"{split}.patches",
                outputs=f"{split}.fingerprint",
                name="fingerprint",
                namespace=split,
            ),
        ]
    return Pipeline(nodes)


def _preprocess(split: str) -> Node:
    return Node(
        bind(preprocess_split, split),
        inputs={
            "micrographs": f"{split}.micrographs",
            "store": "data_curation.raw.micrographs",
            "preprocessing": "params:preprocessing",
            "own": f"params:splits.{split}",
            "curation": "params:curation",
        },
        outputs=f"{split}.patches",
        name="preprocess",
        namespace=split,
    )


def _adopt(split: str) -> Node:
    return Node(
        bind(adopt_curated_set, split),
        inputs=["data_curation.raw.curated_sets", f"params:splits.{split}"],
        outputs=f"{split}.patches",
        name="adopt_curated_set",
        namespace=split,
    )
