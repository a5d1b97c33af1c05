"""A network trained further on a few micrographs labelled by hand."""

from temshift.pipelines.fine_tuning.pipeline import create_pipeline

__all__ = ["create_pipeline"]
