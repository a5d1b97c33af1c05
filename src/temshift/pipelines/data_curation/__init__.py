"""From a metadata table and a folder of files to validated, integrity-checked splits."""

from temshift.pipelines.data_curation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
