"""Says what the results of the networks mean."""

from temshift.pipelines.generalization_reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
