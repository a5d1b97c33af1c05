"""Trains the networks of every study: one node a network, all folds together."""

from temshift.pipelines.modelling.pipeline import create_pipeline

__all__ = ["create_pipeline"]
