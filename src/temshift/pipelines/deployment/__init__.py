"""From new micrographs to masks, sizes, and whether to trust them."""

from temshift.pipelines.deployment.pipeline import create_pipeline

__all__ = ["create_pipeline"]
