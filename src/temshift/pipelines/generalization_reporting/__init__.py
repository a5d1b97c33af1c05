"""Tests every network on the splits of its studies and says what the results mean."""

from temshift.pipelines.generalization_reporting.pipeline import create_pipeline

__all__ = ["create_pipeline"]
