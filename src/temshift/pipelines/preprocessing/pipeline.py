"""Wiring of the preprocessing pipeline."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from temshift.binding import bind
from temshift.context import study_plan
from temshift.pipelines.preprocessing.nodes import fingerprint_split, preprocess_split


def create_pipeline() -> Pipeline:
    """Patches and fingerprint of every split that is used, in the split's namespace."""
    nodes = []
    for split in study_plan().used_splits:
        nodes += [
            Node(
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
            ),
            Node(
                fingerprint_split,
                inputs=f"{split}.patches",
                outputs=f"{split}.fingerprint",
                name="fingerprint",
                namespace=split,
            ),
        ]
    return Pipeline(nodes)
