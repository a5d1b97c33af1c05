"""Searches for better settings of a network, judged in the domain."""

from temshift.pipelines.sweep.pipeline import create_pipeline

__all__ = ["create_pipeline"]
