"""Nodes of the pipeline ``box``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from temshift.config.box import BoxParameters, RandomExposures, RandomFields
from temshift.types import (
    CheckpointStore,
    DataFrame,
    ExitWave,
    NetworkSet,
    PatchStack,
    PatchStream,
)


def simulate_random_fields(fields: Any) -> Iterator[tuple[str, ExitWave]]:
    """Simulate specimens, each another one.

    The parameters are a part of a block that Kedro has validated as a whole.
    """
    from temshift.microscopy.randomised import simulate_fields

    return simulate_fields(RandomFields.model_validate(fields))


def take_random_patches(
    waves: Mapping[str, ExitWave], exposures: Any, seed: int, folds: int, patch_px: int
) -> PatchStream:
    """Image every specimen under several conditions, made while it is written."""
    from temshift.microscopy.randomised import random_patches

    return random_patches(waves, RandomExposures.model_validate(exposures), seed, folds, patch_px)


def train(patches: PatchStack, box: BoxParameters, checkpoints: CheckpointStore) -> NetworkSet:
    """Train the folds."""
    from temshift.learning.box import train_box

    return train_box(patches, box, checkpoints)


def pack(networks: NetworkSet, fields: Any) -> NetworkSet:
    """Make the networks small enough for the package."""
    from temshift.learning.box import pack

    return pack(networks, RandomFields.model_validate(fields))


def calibrate(
    networks: NetworkSet, waves: Mapping[str, ExitWave], fields: Any, exposures: Any
) -> tuple[DataFrame, DataFrame]:
    """Gather the evidence on fields that no network has seen."""
    from temshift.learning.box import calibrate_box

    return calibrate_box(
        networks,
        waves,
        RandomFields.model_validate(fields),
        RandomExposures.model_validate(exposures),
    )
