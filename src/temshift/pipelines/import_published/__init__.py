"""Makes the trained networks of the published study rows of any matrix of ours."""

from temshift.pipelines.import_published.pipeline import create_pipeline

__all__ = ["create_pipeline"]
