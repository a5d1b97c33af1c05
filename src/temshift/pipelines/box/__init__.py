"""The network that comes with the package: simulate, train, learn trust."""

from temshift.pipelines.box.pipeline import create_pipeline

__all__ = ["create_pipeline"]
