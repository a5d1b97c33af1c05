"""Prepares the micrographs of every split, cuts them into patches and describes them."""

from temshift.pipelines.preprocessing.pipeline import create_pipeline

__all__ = ["create_pipeline"]
