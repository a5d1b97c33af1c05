"""What a whole table is asked, beside its single files: warnings, each told once with a number.

All of it follows from the table, what was measured in the files, and the parameters; no file is
read. Errors are what would stop the study later or spoil it: micrographs smaller than a patch,
resampling without a pixel size, and one mask for micrographs of different specimens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from temshift.config.splits import SplitParameters
from temshift.microscopy.preprocess import resampled_shape
from temshift.study.folds import group_names
from temshift.study.tables import finding

__all__ = [
    "PLAUSIBLE_DIAMETER_NM",
    "Patches",
    "implausible_pixel_sizes",
    "look_at_patches",
    "overlapping_splits",
    "repeated_masks",
    "shared_masks",
    "similar_specimens",
    "unknown_cells",
    "unused_micrographs",
]

#: Diameters of particles (nm) outside of which the pixel size is hardly true.
PLAUSIBLE_DIAMETER_NM = (0.5, 500.0)

#: Share of a micrograph's area outside of all patches from which it is told.
DROPPED_SHARE = 0.25

#: What stands between the words and numbers of a name, and the dashes among it.
_DASHES = "\\-\u2010-\u2015\u2212"
_GAPS = rf"[\s_{_DASHES}]+"

Findings = list[dict[str, str]]


class Patches:
    """How micrographs will be cut: side of a patch, and the pixel size to which they are resampled.

    Parameters
    ----------
    patch_px : int
    pixel_size_nm : float, optional
    published : bool
        Whether the protocol ``published`` is run, which uses no patch that overlaps another.
    """

    def __init__(
        self, patch_px: int, pixel_size_nm: float | None = None, published: bool = False
    ) -> None:
        self.patch_px, self.pixel_size_nm = patch_px, pixel_size_nm
        self.published = published

    def of(self, split: SplitParameters) -> Patches:
        """Return the same with a split's own ``preprocessing`` laid over it."""
        own = split.preprocessing
        return Patches(
            own.get("patch_px", self.patch_px),
            own.get("pixel_size_nm", self.pixel_size_nm),
            self.published,
        )


def unused_micrographs(table: pd.DataFrame, selected: Mapping[str, pd.DataFrame]) -> Findings:
    """Tell how many micrographs are in no split of the study."""
    used = {i for rows in selected.values() for i in rows["micrograph_id"]}
    paths = table.loc[~table["micrograph_id"].isin(used), "path"]
    if paths.empty:
        return []
    found = f"{len(paths)} of {len(table)} micrographs in no split of a study"
    expected = "only what is meant to be left out"
    return [finding("warning", _some(paths), "splits", found, expected)]


def overlapping_splits(
    selected: Mapping[str, pd.DataFrame], splits: Mapping[str, SplitParameters]
) -> Findings:
    """Tell how many micrographs belong to two splits, unless these only differ in preprocessing."""
    shared: dict[str, list[str]] = {}
    for a, b in combinations(selected, 2):
        one, two = splits[a], splits[b]
        if one.where == two.where and one.preprocessing != two.preprocessing:
            continue
        both = set(selected[a]["path"]) & set(selected[b]["path"])
        if both:
            shared[f"{a} and {b} ({len(both)})"] = sorted(both)
    if not shared:
        return []
    paths = dict.fromkeys(path for both in shared.values() for path in both)
    pairs = _listed(list(shared), 3)
    found = f"{len(paths)} micrographs in two splits: {pairs}"
    expected = "splits that exclude each other (splits.*.where)"
    return [finding("warning", _some(paths), "splits", found, expected)]


def shared_masks(table: pd.DataFrame, measurements: pd.DataFrame) -> Findings:
    """Tell which micrographs have one and the same file as their mask.

    Returns
    -------
    list of findings
        An error for each micrograph whose mask is that of another specimen's, as where a template
        leaves out the folder (an unknown ``specimen_id`` is one of its own); one warning for all
        that share it within a specimen, whose field may have been imaged twice. Empty masks do
        not count.
    """
    found: Findings = []
    same: list[tuple[str, str]] = []
    for file, rows in _with_masks(table, measurements).groupby("label_file", sort=False):
        first, *others = zip(rows["path"], rows["group"], strict=True)
        for path, group in others:
            what = f"{file}, which is also the mask of {first[0]}"
            if group == first[1]:
                same.append((path, what))
                continue
            expected = (
                "a mask of its own, e.g. by the template label_path: "
                '"{File.parent}/masks/{File.stem}.png" with the folder in it; or one specimen_id '
                "for both, if they show one field"
            )
            found.append(finding("error", path, "label_path", what, expected))
    if same:
        paths, said = zip(*same, strict=True)
        what = f"{len(same)} micrographs with the mask of another: {said[0]}"
        expected = (
            "a mask of its own (a template with the folder: {File.parent}), unless both show one "
            "field"
        )
        found.append(finding("warning", _some(paths), "label_path", what, expected))
    return found


def similar_specimens(table: pd.DataFrame) -> Findings:
    """Tell names of specimens that differ only in typing: ``grid_1`` and ``Grid 1``."""
    known = table[table["specimen_id"].fillna("") != ""].drop_duplicates("specimen_id")
    alike = known.groupby(known["specimen_id"].map(_plain_name), sort=False)
    spellings = [rows for _, rows in alike if len(rows) > 1]
    if not spellings:
        return []
    paths = [path for rows in spellings for path in rows["path"].iloc[1:]]
    each = [" and ".join(map(repr, rows["specimen_id"])) for rows in spellings]
    found = f"{len(spellings)} specimens with names that differ only in typing: {_listed(each, 3)}"
    expected = "one name for one specimen: under two it could be trained on and tested"
    return [finding("warning", _some(paths), "specimen_id", found, expected)]


def repeated_masks(table: pd.DataFrame, measurements: pd.DataFrame) -> Findings:
    """Tell how many masks are pixel for pixel those of another specimen, in another file.

    Empty ones do not count, nor do several images of one field (the same ``specimen_id``).
    """
    rows = _with_masks(table, measurements).drop_duplicates("label_file")
    rows = rows.drop_duplicates(["label_sha256", "group"])
    again = rows[rows.duplicated("label_sha256")]
    if again.empty:
        return []
    first = rows.drop_duplicates("label_sha256").set_index("label_sha256")["label_path"]
    row = again.iloc[0]
    found = (
        f"{len(again)} masks with the same pixels as another's, e.g. "
        f"{first[row['label_sha256']]} and {row['label_path']}"
    )
    expected = "a mask of its own for every micrograph"
    return [finding("warning", _some(again["path"]), "label_path", found, expected)]


def unknown_cells(
    table: pd.DataFrame,
    selected: Mapping[str, pd.DataFrame],
    varied: Mapping[str, Iterable[str]],
) -> Findings:
    """Tell how many micrographs lack a value in a column that a study varies.

    Parameters
    ----------
    table : DataFrame
        All micrographs, also those in no split: an empty cell may be the reason for it.
    selected : mapping of str to DataFrame
        Micrographs of each split.
    varied : mapping of str to iterable of str
        Column to the splits of the studies that vary it.
    """
    found = []
    used = {i for rows in selected.values() for i in rows["micrograph_id"]}
    for column in varied:
        if column not in table:
            continue
        empty = table[table[column].isna() | (table[column].astype(str) == "")]
        inside = sum(empty["micrograph_id"].isin(used))
        if len(empty):
            what = (
                f"{len(empty)} empty cells ({inside} of them in a split), though a study varies it"
            )
            expected = "a value for each micrograph"
            found.append(finding("warning", _some(empty["path"]), column, what, expected))
    return found


def implausible_pixel_sizes(table: pd.DataFrame, measurements: pd.DataFrame) -> Findings:
    """Tell how many micrographs would show particles of less than 0.5 nm, or more than 500 nm.

    That is what a column in Å or pm looks like where nm are meant.
    """
    columns = ["micrograph_id", "header_pixel_size_nm", "particle_diameter_px"]
    rows = table[["micrograph_id", "path", "pixel_size_nm"]].merge(measurements[columns])
    size = rows["pixel_size_nm"].fillna(rows["header_pixel_size_nm"].astype(float))
    diameter = rows["particle_diameter_px"].astype(float) * size
    low, high = PLAUSIBLE_DIAMETER_NM
    wrong = rows[(diameter < low) | (diameter > high)]
    if wrong.empty:
        return []
    median = float(diameter[wrong.index].median())
    found = (
        f"{len(wrong)} micrographs whose particles would measure {median:.3g} nm (median), by "
        f"their masks and {float(size[wrong.index].median()):.3g} nm/px"
    )
    expected = f"particles of {low:g} to {high:g} nm (is the pixel size in Å or pm?)"
    return [finding("warning", _some(wrong["path"]), "pixel_size_nm", found, expected)]


def look_at_patches(
    selected: Mapping[str, pd.DataFrame],
    measurements: pd.DataFrame,
    splits: Mapping[str, SplitParameters],
    patches: Patches,
) -> Findings:
    """Tell micrographs that cannot be cut into patches, and how much of the others is lost.

    Returns
    -------
    list of findings
        An error for each micrograph that is smaller than a patch, or is to be resampled and has no
        pixel size; with the protocol ``published``, one warning if more than a quarter of the area
        of some lies in no patch.
    """
    errors: dict[str, dict[str, str]] = {}
    lost: dict[str, list[float]] = {}
    shapes: list[tuple[int, int]] = []
    paths: dict[str, None] = {}
    for name, rows in selected.items():
        own = patches.of(splits[name])
        for row in rows.merge(measurements, on="micrograph_id").to_dict("records"):
            shape, problem = _shape(row, own)
            if problem:
                errors.setdefault(row["path"], problem)
                continue
            count = (shape[0] // own.patch_px) * (shape[1] // own.patch_px)
            share = 1 - count * own.patch_px**2 / (shape[0] * shape[1])
            if own.published and share > DROPPED_SHARE:
                lost.setdefault(name, []).append(share)
                shapes.append(shape)
                paths[row["path"]] = None
    found = list(errors.values())
    if lost:
        each = [f"{name}: {np.mean(shares):.0%}" for name, shares in lost.items()]
        better = _fitting_patch(shapes, patches.patch_px)
        found.append(
            finding(
                "warning",
                _some(paths),
                "preprocessing.patch_px",
                f"{len(paths)} micrographs of which a large part lies in no patch of "
                f"{patches.patch_px} px of the protocol 'published' and is not used by it "
                f"({_listed(each, 4)})",
                f"at most {DROPPED_SHARE:.0%}" + (f"; {better} px fit better" if better else ""),
            )
        )
    return found


def _with_masks(table: pd.DataFrame, measurements: pd.DataFrame) -> pd.DataFrame:
    """Return micrographs whose mask has particles, with their specimen and the mask's file."""
    rows = table.merge(measurements[["micrograph_id", "label_sha256"]], on="micrograph_id")
    rows = rows[rows["label_sha256"] != ""]
    files = [str(PurePosixPath(path)) for path in rows["label_path"]]
    return rows.assign(group=group_names(rows), label_file=files)


def _plain_name(name: str) -> str:
    """Return what is left of a name without the ways in which it may be typed.

    Capitals, blanks, underscores, dashes and leading zeros do not matter; but between two digits
    something stays (``1-1`` is not ``11``), as do signs in front or behind and zeros of a fraction.
    """
    plain = unicodedata.normalize("NFC", name).casefold()
    plain = re.sub(rf"(?<=\d){_GAPS}(?=\d)", "-", plain)
    plain = re.sub(r"[\s_]+", "", plain)
    plain = re.sub(rf"(?<=[^\W\d])[{_DASHES}]+(?=\w)|(?<=\w)[{_DASHES}]+(?=[^\W\d])", "", plain)
    return re.sub(r"(?<!\d)(?<!\d[.,])0+(?=\d)", "", plain)


def _shape(
    row: Mapping[Any, Any], patches: Patches
) -> tuple[tuple[int, int], dict[str, str] | None]:
    """Return the shape of a micrograph when it is cut, or why it cannot be."""
    shape = int(row["height_px"]), int(row["width_px"])
    target = patches.pixel_size_nm
    if target is not None:
        size = row["pixel_size_nm"]
        size = row["header_pixel_size_nm"] if pd.isna(size) else size
        if pd.isna(size):
            return shape, finding(
                "error",
                row["path"],
                "pixel_size_nm",
                "no pixel size, neither in the table nor in the header",
                f"one, since preprocessing.pixel_size_nm = {target:g} asks for resampling (set it "
                "to null to leave the pixels as they are)",
            )
        shape = resampled_shape(shape, float(size), target)
    if min(shape) < patches.patch_px:
        resampled = f" after resampling to {target:g} nm/px" if target is not None else ""
        return shape, finding(
            "error",
            row["path"],
            "preprocessing.patch_px",
            f"{shape[0]} × {shape[1]} px{resampled}",
            f"at least one patch of {patches.patch_px} px: lower preprocessing.patch_px (a "
            "multiple of 16), or leave the micrograph out",
        )
    return shape, None


def _fitting_patch(shapes: list[tuple[int, int]], patch_px: int) -> int | None:
    """Return the side (a multiple of 32) near ``patch_px`` that loses least, if that is better."""

    def kept(side: int) -> float:
        return float(np.mean([(h // side) * (w // side) * side**2 / (h * w) for h, w in shapes]))

    sides = [s for s in range(64, min(map(min, shapes)) + 1, 32) if 2 * s >= patch_px]
    best = max(sides, key=lambda side: (round(kept(side), 2), side), default=patch_px)
    return best if kept(best) > kept(patch_px) + 0.1 else None


def _some(paths: Iterable[str]) -> str:
    """Return the first of several paths, and how many more there are."""
    first, *others = list(paths)
    return f"{first} and {len(others)} more" if others else first


def _listed(items: list[str], count: int) -> str:
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(items[:count]) + more
