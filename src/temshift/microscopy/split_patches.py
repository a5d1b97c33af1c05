"""All micrographs of a split, from files to patches."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from temshift.config.preprocessing import PreprocessingParameters
from temshift.microscopy.micrograph import Store
from temshift.microscopy.patches import PatchStack, PatchStream, cut_patches, patch_grid, shuffled
from temshift.microscopy.preprocess import preprocess_micrograph, resample, resampled_shape
from temshift.parallel import available_cores, map_ordered

__all__ = ["patch_micrograph", "patch_split"]

_log = logging.getLogger(__name__)

#: Threads; each holds about 250 MB while it works on a micrograph of 4096 x 4096 px.
_MAX_WORKERS = 4


def patch_split(
    split: str,
    micrographs: pd.DataFrame,
    store: Store,
    parameters: PreprocessingParameters,
    label_kind: Literal["binary", "instance"] = "binary",
    pixel_size_tolerance: float = 0.05,
) -> PatchStream:
    """Preprocess the micrographs of a split and cut them into patches.

    The micrographs are shuffled; several are worked on at once, and a bounded number is in memory.

    Parameters
    ----------
    split : str
        Name of the split.
    micrographs : DataFrame
        Rows of the split in the micrograph table, with ``height_px``, ``width_px``, ``group`` and
        ``fold``;
        ``pixel_size_nm`` there wins over that of the file's header.
    store : Store
        Reads ``path`` and ``label_path``.
    parameters : PreprocessingParameters
        Those of the split.
    label_kind : {"binary", "instance"}
    pixel_size_tolerance : float
        Relative spread up to which the micrographs count as of one pixel size.

    Returns
    -------
    PatchStream
        Nothing is read before it is iterated over.

    Raises
    ------
    ValueError
        Naming the micrograph: it is smaller than a patch, its pixel size is unknown and resampling
        is asked for, its label has another shape, or its image cannot be preprocessed.
    """
    order = shuffled(len(micrographs), parameters.shuffle_seed)
    rows: list[dict[str, Any]] = micrographs.iloc[order].to_dict("records")  # type: ignore[assignment]
    n_patches = sum(_count_patches(row, parameters) for row in rows)

    def parts() -> Iterator[PatchStack]:
        from threadpoolctl import threadpool_limits

        def work(row: dict[str, Any]) -> PatchStack:
            return patch_micrograph(row, store, parameters, label_kind)

        with threadpool_limits(1, user_api="blas"):  # the cores are busy with other micrographs
            yield from map_ordered(work, rows, min(available_cores(), _MAX_WORKERS), split)

    sizes = [parameters.pixel_size_nm or _number(row.get("pixel_size_nm")) for row in rows]
    doses = [_number(row.get("dose_e_per_A2")) for row in rows]
    attributes = {
        "split": split,
        "pixel_size_nm": _median_if_alike(sizes, pixel_size_tolerance, f"{split}: pixel_size_nm"),
        "dose_e_per_A2": _median_if_alike(doses, np.inf, f"{split}: dose_e_per_A2"),
        "material": _alike([_text(row.get("material")) for row in rows]),
        "diameter_nm": _alike([_number(row.get("diameter_nm")) for row in rows]),
        "preprocessing": parameters.model_dump(),
        "sha256": {str(row["micrograph_id"]): _text(row.get("sha256")) for row in rows},
    }
    return PatchStream(parts(), n_patches, parameters.patch_px, attributes)


def patch_micrograph(
    row: dict[str, Any],
    store: Store,
    parameters: PreprocessingParameters,
    label_kind: Literal["binary", "instance"] = "binary",
) -> PatchStack:
    """Read, preprocess and cut one micrograph with its label (see :func:`patch_split`)."""
    micrograph = store.read(row["path"])
    pixel_size_nm = _number(row.get("pixel_size_nm")) or micrograph.pixel_size_nm
    label = store.read_label(row["label_path"], label_kind)
    try:
        image, _ = preprocess_micrograph(micrograph.image, parameters, pixel_size_nm)
        if parameters.pixel_size_nm is not None:
            label = resample(label, pixel_size_nm, parameters.pixel_size_nm)
        images, labels, corners = cut_patches(image, label, parameters.patch_px)
    except ValueError as error:
        raise ValueError(f"{row['micrograph_id']} ({row['path']}): {error}") from error
    table = pd.DataFrame(
        {
            "micrograph_id": str(row["micrograph_id"]),
            "specimen_id": _text(row.get("specimen_id")),
            "group": str(row["group"]),
            "row": corners[:, 0],
            "column": corners[:, 1],
            "labelled_px": np.count_nonzero(labels, axis=(1, 2)),
            "fold": int(row["fold"]),
        }
    )
    return PatchStack(images, labels, table)


def _count_patches(row: dict[str, Any], parameters: PreprocessingParameters) -> int:
    shape = int(row["height_px"]), int(row["width_px"])
    try:
        if parameters.pixel_size_nm is not None:
            shape = resampled_shape(
                shape, _number(row.get("pixel_size_nm")), parameters.pixel_size_nm
            )
        return len(patch_grid(shape, parameters.patch_px))
    except ValueError as error:
        raise ValueError(f"{row['micrograph_id']} ({row['path']}): {error}") from error


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)


def _alike(values: list[Any]) -> Any:
    """Return the value that all micrographs have, else ``None``."""
    return (values[0] or None) if len(set(values)) == 1 else None


def _median_if_alike(values: list[float | None], tolerance: float, what: str) -> float | None:
    """Return the median if all values are known and alike, else ``None``."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values) or not numbers:
        return None
    median = float(np.median(numbers))
    if max(numbers) - min(numbers) > tolerance * median:
        _log.warning(
            "%s differs within the split (%g to %g): treated as unknown",
            what,
            min(numbers),
            max(numbers),
        )
        return None
    return median
