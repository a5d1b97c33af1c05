"""Is the data fit for a study? Every micrograph and mask is looked at before anything is trained.

nnU-Net's ``verify_dataset_integrity`` is the model: all problems are found in one pass and
reported together.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.curation import CurationParameters
from temshift.config.errors import UserError
from temshift.config.splits import SplitParameters
from temshift.microscopy.micrograph import Micrograph, Store, pixel_sha256
from temshift.microscopy.particles import median_diameter_px
from temshift.parallel import available_cores, map_ordered
from temshift.study import quality
from temshift.study.folds import assign_groups_to_folds, group_names
from temshift.study.paths import meant_paths
from temshift.study.splits import SplitError, select_splits
from temshift.study.tables import finding, findings_table

__all__ = [
    "ACCEPTED_COLUMNS",
    "MEASUREMENT_COLUMNS",
    "IntegrityError",
    "accept",
    "inspect_micrographs",
    "refused",
    "report_integrity",
]

_log = logging.getLogger(__name__)

#: Columns of a table of measurements: one row a micrograph that could be read.
MEASUREMENT_COLUMNS = (
    "micrograph_id",
    "sha256",
    "pixel_sha256",
    "height_px",
    "width_px",
    "header_pixel_size_nm",
    "labelled_share",
    "label_sha256",
    "particle_diameter_px",
)

#: Columns that an accepted micrograph table has beyond the contract's.
ACCEPTED_COLUMNS = ("height_px", "width_px", "pixel_size_source", "group", "fold")

#: Threads; each holds a micrograph and its mask (about 120 MB at 4096 x 4096 px).
MAX_WORKERS = 4

#: Share of pixels at the very maximum from which an image counts as saturated.
SATURATED_SHARE = 0.01

#: Shares of labelled pixels outside of which a mask is empty or may be inverted.
PLAUSIBLE_COVERAGE = (0.0, 0.8)

#: Doses outside of this range (e/Å²) are unlikely in TEM; e/nm² are 100 times as large.
PLAUSIBLE_DOSE = (0.1, 2e4)

#: Relative difference between the doses of table and header above which there is a warning.
DOSE_TOLERANCE = 0.1


class IntegrityError(UserError):
    """Data that must be mended before a study."""


def inspect_micrographs(
    table: pd.DataFrame,
    findings: pd.DataFrame,
    store: Store,
    parameters: CurationParameters,
    splits: Mapping[str, SplitParameters],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Look at every micrograph and mask that the splits select.

    Errors: missing or unreadable files, a mask of another shape or with other values, NaN, a
    constant image, a hash other than the table's, the same image in two groups (it would stand in
    training and test; pixels are compared, whatever their files). Warnings: saturation, an empty
    or nearly full mask, the same image twice in one group, pixel size or dose that differ between
    table and header, an unlikely dose.

    Parameters
    ----------
    table, findings : DataFrame
        From :func:`temshift.study.tables.standardise_table`.
    store : Store
    parameters : CurationParameters
    splits : mapping of str to SplitParameters
        Those that the study uses; other micrographs are not touched.

    Returns
    -------
    report : DataFrame
        ``findings`` and all further ones, errors first.
    measurements : DataFrame
        :data:`MEASUREMENT_COLUMNS`.

    Raises
    ------
    SplitError
        A split selects nothing; no micrograph is read in that case.
    """
    found: list[dict[str, str]] = findings.to_dict("records")  # type: ignore[assignment]
    table = _with_header_pixel_sizes(table, store, splits, found)
    try:
        selected = select_splits(table, splits, parameters.contract)
    except SplitError:
        if not any(f["severity"] == "error" for f in found):
            raise
        # errors of the table come first: a number that cannot be read may be the reason
        return findings_table(found), pd.DataFrame(columns=list(MEASUREMENT_COLUMNS))
    ids = {i for rows in selected.values() for i in rows["micrograph_id"]}
    used = table[table["micrograph_id"].isin(ids)]  # each once, in the order of the table

    def look(row: dict[str, Any]) -> tuple[list[dict[str, str]], dict[str, Any] | None]:
        return _look_at(row, store, parameters)

    workers = min(available_cores(), MAX_WORKERS)
    measurements = []
    rows: list[dict[str, Any]] = used.to_dict("records")  # type: ignore[assignment]
    for problems, measured in map_ordered(look, rows, workers, "integrity check"):
        found += problems
        if measured:
            measurements.append(measured)
    measured_table = pd.DataFrame(measurements, columns=list(MEASUREMENT_COLUMNS))
    found += _duplicates(used, measured_table, parameters.group_by)
    return findings_table(found), measured_table


def accept(
    table: pd.DataFrame,
    report: pd.DataFrame,
    measurements: pd.DataFrame,
    parameters: CurationParameters,
    splits: Mapping[str, SplitParameters],
    folds: int,
) -> pd.DataFrame:
    """Return the validated micrograph table, or refuse.

    Parameters
    ----------
    table : DataFrame
        From :func:`temshift.study.tables.standardise_table`.
    report, measurements : DataFrame
        From :func:`inspect_micrographs`.
    parameters : CurationParameters
    splits : mapping of str to SplitParameters
    folds : int
        Number of folds.

    Returns
    -------
    DataFrame
        The micrographs of all splits: the columns of ``table`` and :data:`ACCEPTED_COLUMNS`;
        ``group`` is the independent unit, which is never divided between training and test and
        which intervals count. The
        pixel size of the table wins over that of the header (``pixel_size_source``: ``table``,
        ``header`` or ``unknown``).

    Raises
    ------
    IntegrityError
        The report holds errors: the first of them, and how many there are.
    FoldError
        There are too few groups for the folds.
    """
    errors = report[report["severity"] == "error"]
    if len(errors):
        raise refused(errors)
    for row in report.head(10).to_dict("records"):
        _log.warning("%(file)s: %(column)s: %(found)s; expected %(expected)s", row)
    if len(report) > 10:
        _log.warning("%d warnings in all: data_curation.reporting.integrity", len(report))

    measured = measurements.set_index("micrograph_id")
    accepted = table[table["micrograph_id"].isin(measured.index)].reset_index(drop=True)
    measured = measured.loc[accepted["micrograph_id"]].reset_index()
    header = measured["header_pixel_size_nm"].astype(np.float64)
    accepted["pixel_size_source"] = np.select(
        [accepted["pixel_size_nm"].notna(), header.notna()], ["table", "header"], "unknown"
    )
    accepted["pixel_size_nm"] = accepted["pixel_size_nm"].fillna(header)
    for column in ("sha256", "height_px", "width_px"):
        accepted[column] = measured[column]
    selected = select_splits(accepted, splits, parameters.contract)
    fold_of = assign_groups_to_folds(selected, folds, parameters.group_by, parameters.fold_seed)
    accepted["group"] = group_names(accepted, parameters.group_by)
    accepted["fold"] = accepted["group"].map(fold_of).astype(int)
    return accepted[[*table.columns, *ACCEPTED_COLUMNS]]


def refused(errors: pd.DataFrame) -> IntegrityError:
    """Return the error that tells the first of several errors in a table of findings, and more."""
    first, *others = errors.head(6).to_dict("records")
    details = [
        f"- {row['file']}: {row['column']}: found {row['found']}; expected {row['expected']}"
        for row in others
    ]
    if len(errors) > 6:
        details.append(f"… and {len(errors) - 6} more")
    if details:
        details.insert(0, f"The data have {len(errors)} errors; beside the one below:")
    return IntegrityError(
        f"{first['file']}: {first['column']} is wrong",
        f"Found {first['found']}; expected {first['expected']}",
        "Mend the table or the files, or leave these rows out"
        + (f"; all {len(errors)} errors" if details else "; what was found")
        + " are listed in 08_reporting/integrity.csv",
        details,
    )


def report_integrity(
    table: pd.DataFrame,
    inspected: pd.DataFrame,
    measurements: pd.DataFrame,
    parameters: CurationParameters,
    splits: Mapping[str, SplitParameters],
    varied: Mapping[str, list[str]],
    patches: quality.Patches,
) -> pd.DataFrame:
    """Add to what was found in single files what only the whole table shows.

    Parameters
    ----------
    table : DataFrame
        From :func:`temshift.study.tables.standardise_table`.
    inspected, measurements : DataFrame
        From :func:`inspect_micrographs`.
    parameters : CurationParameters
    splits : mapping of str to SplitParameters
    varied : mapping of str to list of str
        Column that a study varies, to the splits of such studies.
    patches : Patches
        How micrographs will be cut.

    Returns
    -------
    DataFrame
        ``inspected`` and all further findings, errors first (:mod:`temshift.study.quality`).
    """
    found: list[dict[str, str]] = inspected.to_dict("records")  # type: ignore[assignment]
    header = measurements.set_index("micrograph_id")["header_pixel_size_nm"]
    sizes = table["pixel_size_nm"].fillna(table["micrograph_id"].map(header).astype(float))
    known = table.assign(pixel_size_nm=sizes)
    try:
        selected = select_splits(known, splits, parameters.contract)
    except SplitError:
        if not (inspected["severity"] == "error").any():
            raise
        return findings_table(found)  # errors of the table come first: they may be the reason
    rows = known[known["micrograph_id"].isin(measurements["micrograph_id"])]
    found += quality.look_at_patches(selected, measurements, splits, patches)
    found += quality.implausible_pixel_sizes(rows, measurements)
    found += quality.unused_micrographs(table, selected)
    found += quality.overlapping_splits(selected, splits)
    found += quality.shared_masks(rows, measurements)
    found += quality.repeated_masks(rows, measurements)
    found += quality.similar_specimens(rows)
    found += quality.unknown_cells(known, selected, varied)
    return findings_table(found)


def _with_header_pixel_sizes(
    table: pd.DataFrame,
    store: Store,
    splits: Mapping[str, SplitParameters],
    found: list[dict[str, str]],
) -> pd.DataFrame:
    """Fill in unknown pixel sizes from the headers, if a split selects on them."""
    if not any("pixel_size_nm" in split.where for split in splits.values()):
        return table
    sizes: list[float | None] = []
    for path, size in zip(table["path"], table["pixel_size_nm"], strict=True):
        if not np.isnan(size):
            sizes.append(size)
            continue
        if not store.exists(path):
            sizes.append(None)
            hint = _meant(path, store, "")
            found.append(finding("error", path, "path", f"no file {path!r}", f"a micrograph{hint}"))
            continue
        try:
            sizes.append(store.read_header(path).pixel_size_nm)
        except ValueError as error:
            sizes.append(None)
            found.append(finding("error", path, "path", _reason(error), "a readable micrograph"))
    return table.assign(pixel_size_nm=np.array(sizes, np.float64))


def _look_at(
    row: Mapping[str, Any], store: Store, parameters: CurationParameters
) -> tuple[list[dict[str, str]], dict[str, Any] | None]:
    """Return what is wrong with one micrograph and its mask, and what was measured."""
    path, label_path = row["path"], row["label_path"]
    found: list[dict[str, str]] = []

    def error(column: str, what: Any, expected: str) -> None:
        found.append(finding("error", path, column, what, expected))

    def warn(column: str, what: Any, expected: str) -> None:
        found.append(finding("warning", path, column, what, expected))

    if not path or not label_path:
        return found, None  # the table's own findings tell it
    micrograph = label = None
    if not store.exists(path):
        error("path", f"no file {path!r}", f"a micrograph{_meant(path, store, label_path)}")
    else:
        try:
            micrograph = store.read(path)
        except ValueError as problem:
            error("path", _reason(problem), "a readable micrograph")
    if not store.exists(label_path):
        hint = _meant(label_path, store, path)
        error("label_path", f"no file {label_path!r}", f"a mask for every micrograph{hint}")
    else:
        try:
            label = store.read_label(label_path, parameters.label_kind)
        except ValueError as problem:
            error("label_path", f"{label_path}: {_reason(problem)}", "a mask that can be used")
    if micrograph is None:
        return found, None

    height, width = micrograph.image.shape
    _look_at_pixels(micrograph.image, error, warn)
    _look_at_header(row, micrograph, parameters, warn)
    share, mask_digest, diameter = np.nan, "", np.nan
    if label is not None:
        if label.any():
            mask_digest = _pixel_digest(label)
            diameter = median_diameter_px(label) or np.nan
        share = float(label.mean())
        if label.shape != (height, width):
            shape = f"{label.shape[0]} × {label.shape[1]} px"
            error("label_path", f"{label_path}: {shape}", f"{height} × {width} px, as the image")
        elif share <= PLAUSIBLE_COVERAGE[0]:
            warn("label_path", "a mask without any particle", "particles, unless there are none")
        elif share > PLAUSIBLE_COVERAGE[1]:
            warn("label_path", f"{share:.0%} labelled", "1 in the particles (is it inverted?)")
    digest = store.sha256(path)
    if row["sha256"] not in ("", digest):
        error("sha256", digest, f"{row['sha256']}, as in the table: the file has changed")
    measured = (
        path,
        digest,
        pixel_sha256(micrograph.image),
        height,
        width,
        micrograph.pixel_size_nm,
        share,
        mask_digest,
        diameter,
    )
    return found, {
        **dict(zip(MEASUREMENT_COLUMNS, measured, strict=True)),
        "micrograph_id": row["micrograph_id"],
    }


def _look_at_pixels(image: NDArray[Any], error: Any, warn: Any) -> None:
    if image.dtype.kind == "f" and (bad := int(np.size(image) - np.isfinite(image).sum())):
        error("path", f"{bad} pixels that are NaN or infinite", "finite numbers")
        return
    low, high = image.min(), image.max()
    if low == high:
        error("path", f"the value {low} in every pixel", "an image")
        return
    share = float((image == high).mean())
    if share > SATURATED_SHARE:
        warn("path", f"{share:.1%} of the pixels have the maximum, {high}", "no saturation")


def _look_at_header(
    row: Mapping[str, Any], micrograph: Micrograph, parameters: CurationParameters, warn: Any
) -> None:
    size, header = row["pixel_size_nm"], micrograph.pixel_size_nm
    if header is not None and abs(size - header) > parameters.pixel_size_tolerance * header:
        expected = f"{header:.4g}, as in the header{_other_unit(size / header)}"
        warn("pixel_size_nm", f"{size:g} in the table", expected)
    dose, stated = row["dose_e_per_A2"], micrograph.metadata.get("dose_e_per_A2")
    if not np.isnan(dose) and not PLAUSIBLE_DOSE[0] <= dose <= PLAUSIBLE_DOSE[1]:
        low, high = PLAUSIBLE_DOSE
        warn("dose_e_per_A2", f"{dose:g}", f"{low:g} to {high:g} e/Å² (is it in e/nm²?)")
    if isinstance(stated, int | float) and abs(dose - stated) > DOSE_TOLERANCE * stated:
        warn("dose_e_per_A2", f"{dose:g} in the table", f"{stated:g}, as in the header")


def _other_unit(ratio: float) -> str:
    """Say in which unit a pixel size may be that is so many times the header's."""
    for factor, unit in ((10, "Å"), (1000, "pm"), (0.001, "µm")):
        if abs(ratio / factor - 1) < 0.1:
            return f" (is the column in {unit}?)"
    return ""


def _meant(path: str, store: Store, partner: str) -> str:
    """Say which files a path may mean that is not there; not its own mask or micrograph."""
    meant = meant_paths(path, (other for other in store.paths() if other != partner))
    return f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ""


def _pixel_digest(label: NDArray[np.uint8]) -> str:
    shape = repr(label.shape).encode()
    return hashlib.sha256(shape + np.packbits(label).tobytes()).hexdigest()


def _duplicates(
    used: pd.DataFrame, measurements: pd.DataFrame, group_by: str
) -> list[dict[str, str]]:
    """Return findings for images that are there more than once, in whatever file."""
    rows = used.assign(group=group_names(used, group_by))[["micrograph_id", "path", "group"]]
    rows = rows.merge(measurements[["micrograph_id", "pixel_sha256"]], on="micrograph_id")
    found = []
    for _, same in rows.groupby("pixel_sha256", sort=False):
        first, *others = zip(same["path"], same["group"], strict=True)
        for path, group in others:
            divided = group != first[1]
            expected = "every image once" + (
                " (it could be trained on and tested)" if divided else ""
            )
            what = f"the same pixels as {first[0]}"
            found.append(finding("error" if divided else "warning", path, "path", what, expected))
    return found


def _reason(error: ValueError) -> str:
    return str(getattr(error, "reason", error))
