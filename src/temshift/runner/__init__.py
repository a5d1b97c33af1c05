"""How pipelines are executed."""

from temshift.runner.freshness import Freshness
from temshift.runner.incremental import IncrementalRunner

__all__ = ["Freshness", "IncrementalRunner"]
