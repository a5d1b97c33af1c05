"""How pipelines are executed."""

from temshift.runner.incremental import IncrementalRunner

__all__ = ["IncrementalRunner"]
