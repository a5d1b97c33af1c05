"""Fetches the metadata table and the micrographs that the used splits need."""

from temshift.pipelines.download.pipeline import create_pipeline

__all__ = ["create_pipeline"]
