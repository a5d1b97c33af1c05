"""Simulated specimens, imaged under every condition of the studies."""

from temshift.pipelines.simulation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
