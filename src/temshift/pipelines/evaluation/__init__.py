"""From networks and patches to results: the tests of all networks."""

from temshift.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
