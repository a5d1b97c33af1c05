"""Names of the objects that pass between nodes, for annotations in ``pipelines/*/nodes.py``.

Kedro resolves the annotations of every node when pipelines are registered, to validate
parameters. A type checker sees the real classes here; at run time they are ``Any``, so that
registering imports neither pandas nor the modules that do the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

    from temshift.catalog.labelled import LabelledStore
    from temshift.catalog.micrographs import MicrographStore
    from temshift.catalog.networks import CheckpointStore
    from temshift.catalog.new_micrographs import MaskStore
    from temshift.catalog.published import CuratedSets
    from temshift.catalog.segmentations import SegmentationStore
    from temshift.catalog.sweeps import SweepStore
    from temshift.learning.network_set import NetworkSet
    from temshift.microscopy.acquisitions import Exposures
    from temshift.microscopy.multislice import ExitWave
    from temshift.microscopy.patches import PatchStack, PatchStream
else:
    CheckpointStore = CuratedSets = DataFrame = ExitWave = Exposures = LabelledStore = Any
    MaskStore = MicrographStore = NetworkSet = PatchStack = PatchStream = Any
    SegmentationStore = SweepStore = Any

__all__ = [
    "CheckpointStore",
    "CuratedSets",
    "DataFrame",
    "ExitWave",
    "Exposures",
    "LabelledStore",
    "MaskStore",
    "MicrographStore",
    "NetworkSet",
    "PatchStack",
    "PatchStream",
    "SegmentationStore",
    "SweepStore",
]
