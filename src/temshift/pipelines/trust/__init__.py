"""From a finished study: what its tests say about which masks can be believed."""

from temshift.pipelines.trust.pipeline import create_pipeline

__all__ = ["create_pipeline"]
