"""Curated sets: patches that somebody else has cut, without the micrographs they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from temshift.config.contract import CONTRACT, Column
from temshift.config.preprocessing import PUBLISHED
from temshift.config.splits import SplitParameters
from temshift.microscopy.patches import PatchStack, PatchStream

__all__ = ["adopt", "describe"]

#: Patches looked at at a time.
_SLICE = 16


def describe(
    name: str, split: SplitParameters, stack: PatchStack, columns: Mapping[str, Column] = CONTRACT
) -> pd.DataFrame:
    """Return a curated set's rows of the micrograph table.

    Parameters
    ----------
    name : str
        Of the split.
    split : SplitParameters
        Single values in ``where`` hold for the whole set; other conditions say nothing certain.
    stack : PatchStack
    columns : mapping of str to Column
        Of the micrograph table.

    Returns
    -------
    DataFrame
        A row a patch: each counts as a micrograph and a group of its own, of an unknown specimen.
    """
    known = {column: _single(condition) for column, condition in split.where.items()}
    table = pd.DataFrame(
        {
            column.name: np.nan
            if column.numeric and known.get(column.name) is None
            else known.get(column.name, "")
            for column in columns.values()
        },
        index=range(len(stack)),
    )
    side, names = stack.images.shape[1], _names(name, len(stack))
    return table.assign(micrograph_id=names, height_px=side, width_px=side, group=names, fold=-1)


def adopt(name: str, split: SplitParameters, stack: PatchStack) -> PatchStream:
    """Return a curated set as the patches of a split.

    Raises
    ------
    ValueError
        Patches whose side no network takes; (while it is saved) values that are no finite numbers.
    """
    if (side := stack.images.shape[1]) % 16:
        raise ValueError(
            f"curated set {split.curated!r} of split {name!r}: its patches have {side} px, but "
            "networks need a multiple of 16; leave the split out of the studies, or cut the patches"
        )
    names = _names(name, len(stack))
    table = stack.table.assign(micrograph_id=names, group=names)

    def parts() -> Iterator[PatchStack]:
        for start in range(0, len(stack), _SLICE):
            rows = slice(start, start + _SLICE)
            images = np.asarray(stack.images[rows])
            if len(bad := np.flatnonzero(~np.isfinite(images).all(axis=(1, 2)))):
                raise ValueError(
                    f"curated set {split.curated!r} of split {name!r}: patches "
                    f"{(bad + start).tolist()} hold values that are not finite; fetch "
                    f"{split.curated}_Images.h5 again, or leave the split out of the studies"
                )
            yield PatchStack(images, np.asarray(stack.labels[rows]), table.iloc[rows])

    attributes = {
        "split": name,
        "curated": split.curated,
        "preprocessing": PUBLISHED.model_dump(),
        **{
            key: _single(split.where.get(key))
            for key in ("pixel_size_nm", "dose_e_per_A2", "material", "diameter_nm")
        },
    }
    return PatchStream(parts(), len(stack), stack.images.shape[1], attributes)


def _names(split: str, count: int) -> list[str]:
    return [f"{split}_{i:05d}" for i in range(count)]


def _single(condition: Any) -> Any:
    """Return the value of a condition that allows only one, else ``None``."""
    if isinstance(condition, dict):
        return condition.get("value")
    return None if isinstance(condition, list) else condition
