"""Why a shift hurts: whether splits that look more different lose more Dice.

For every pair of splits the distance between their fingerprints is set against the gap of the
network trained on the one and tested on the other. Spearman's rank correlation says how well one
component orders the gaps. Pairs share splits and networks, and there are many components: the best
of them orders a handful of gaps well by chance alone. Its correlation is therefore set against
those that arise when the names of the splits are exchanged in the distances (the permutation test
of Mantel, Cancer Res. 27, 209, 1967), each time the largest over all components (Westfall and
Young): p-values are corrected for the number of components. Even so it is a description: several
components change together, and one that goes along with a drop need not cause it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from temshift.config.plan import StudyPlan
from temshift.config.reporting import ReportingParameters
from temshift.microscopy.fingerprints import fingerprint_distance

__all__ = [
    "ALL_STUDIES",
    "COMPONENTS",
    "explain_gaps",
    "fingerprint_distances",
    "fingerprint_table",
]

#: Scope of the correlation over the pairs of all studies together (no study can have this name).
ALL_STUDIES = "(all)"

#: Components of a fingerprint distance, in words.
COMPONENTS = {
    "contrast": "particle–background contrast",
    "contrast_to_noise": "contrast over noise",
    "noise": "pixel noise",
    "roughness_per_px2": "image roughness",
    "autocorrelation": "autocorrelation",
    "power_spectrum": "power spectrum, per px",
    "power_spectrum_nm": "power spectrum, per nm",
    "diameter_px": "particle diameter in px",
    "diameter_nm": "particle diameter in nm",
    "labelled_share": "labelled share of area",
    "pixel_size_nm": "pixel size",
}

_MIN_PAIRS = 4


def fingerprint_table(fingerprints: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the single numbers of each split's fingerprint, one row a split.

    Returns
    -------
    DataFrame
        ``split`` and the numbers of :func:`temshift.microscopy.fingerprints.fingerprint`, NaN where
        it holds ``None``; spectrum and autocorrelation are left out but for the correlation with
        the next pixel, ``autocorrelation_1_0``.
    """
    rows = []
    for split, fingerprint in fingerprints.items():
        numbers = {k: v for k, v in fingerprint.items() if v is None or isinstance(v, int | float)}
        neighbour = fingerprint.get("autocorrelation", {}).get("1,0")
        rows.append({"split": split, **numbers, "autocorrelation_1_0": neighbour})
    return pd.DataFrame(rows)


def fingerprint_distances(
    gaps: pd.DataFrame, plan: StudyPlan, fingerprints: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Set the fingerprint distances of the splits against the gaps.

    Only the default networks (named like the split they are trained on) are taken: what further
    networks do to a gap is not a matter of the images alone. Gaps that were not judged are left
    out.

    Parameters
    ----------
    gaps : DataFrame
        Of :func:`temshift.study.statistics.compare_with_in_domain`.
    plan : StudyPlan
    fingerprints : mapping of str to dict
        Of each split.

    Returns
    -------
    DataFrame
        ``study, protocol, train_split, test_split, component, distance, gap``; components that one
        of the two splits lacks are left out.
    """
    rows = []
    # of a network that failed, or is no standard, a gap is no loss of the shift
    for row in gaps[gaps["reason"].fillna("") == ""].to_dict("records"):
        train, test = str(row["network"]), str(row["test_split"])
        if train not in plan.splits or train not in fingerprints or test not in fingerprints:
            continue
        distances = fingerprint_distance(fingerprints[train], fingerprints[test])
        rows += [
            {
                "study": row["study"],
                "protocol": row["protocol"],
                "train_split": train,
                "test_split": test,
                "component": component,
                "distance": distance,
                "gap": row["gap"],
            }
            for component in COMPONENTS
            if (distance := distances.get(component)) is not None
        ]
    columns = ["study", "protocol", "train_split", "test_split", "component", "distance", "gap"]
    return pd.DataFrame(rows, columns=columns)


def explain_gaps(
    distances: pd.DataFrame,
    fingerprints: Mapping[str, Mapping[str, Any]],
    parameters: ReportingParameters,
) -> pd.DataFrame:
    """Return Spearman's rank correlation of each distance with the gap.

    Parameters
    ----------
    distances : DataFrame
        Of :func:`fingerprint_distances`.
    fingerprints : mapping of str to dict
        Of each split.
    parameters : ReportingParameters
        ``permutations`` and their seed.

    Returns
    -------
    DataFrame
        ``scope`` (a study or :data:`ALL_STUDIES`), ``protocol, component, n_pairs, n_distances``
        (different values of the distance), ``rho, p_value``; NaN for fewer than four pairs or
        where all distances are equal. ``p_value`` is the share of permutations of the splits of
        the scope in which any component reaches this correlation.
    """
    pairs = ["protocol", "train_split", "test_split", "component"]
    scopes = [(ALL_STUDIES, distances.drop_duplicates(pairs))]
    scopes += [(str(study), part) for study, part in distances.groupby("study", sort=False)]
    rows = []
    for scope, table in scopes:
        for protocol, part in table.groupby("protocol", sort=False):
            found: list[dict[str, Any]] = []
            for component, pairs_of in part.groupby("component", sort=False):
                distance = pairs_of["distance"].round(_DECIMALS)
                n, n_distances = len(pairs_of), distance.nunique()
                usable = n >= _MIN_PAIRS and n_distances > 1
                rho = distance.corr(pairs_of["gap"], method="spearman") if usable else float("nan")
                found.append(
                    {
                        "scope": scope,
                        "protocol": protocol,
                        "component": component,
                        "n_pairs": n,
                        "n_distances": n_distances,
                        "rho": rho,
                    }
                )
            usable_rows = [row for row in found if np.isfinite(row["rho"])]
            largest = _largest_by_chance(
                part, [str(row["component"]) for row in usable_rows], fingerprints, parameters
            )
            for row in found:
                # equal but for rounding: the order as it is, is among the permutations
                reached = largest >= row["rho"] - 1e-9
                row["p_value"] = float(reached.mean()) if np.isfinite(row["rho"]) else float("nan")
            rows += found
    columns = ["scope", "protocol", "component", "n_pairs", "n_distances", "rho", "p_value"]
    return pd.DataFrame(rows, columns=columns)


# --------------------------------------------------------------------------- inside
#: Distances from A to B and from B to A are equal but for rounding, and tied in rank.
_DECIMALS = 9


def _largest_by_chance(
    table: pd.DataFrame,
    components: Sequence[str],
    fingerprints: Mapping[str, Mapping[str, Any]],
    parameters: ReportingParameters,
) -> NDArray[np.float64]:
    """Return the largest correlation of any component for each permutation of the split names.

    The first permutation changes nothing.
    """
    if not components:
        return np.full(1, np.nan)
    gaps = table.drop_duplicates(["train_split", "test_split"])
    splits = sorted({*gaps["train_split"], *gaps["test_split"]})
    place = {split: i for i, split in enumerate(splits)}
    train = gaps["train_split"].map(place).to_numpy(int)
    test = gaps["test_split"].map(place).to_numpy(int)
    gap = gaps["gap"].to_numpy(float)
    distance = np.full((len(components), len(splits), len(splits)), np.nan)
    for a, b in itertools.combinations(splits, 2):
        known = fingerprint_distance(fingerprints[a], fingerprints[b])
        for i, component in enumerate(components):
            if (value := known.get(component)) is not None:
                value = round(value, _DECIMALS)
                distance[i, [place[a], place[b]], [place[b], place[a]]] = value
    orders = _permutations(len(splits), parameters)
    permuted = distance[:, orders[:, train], orders[:, test]]  # component, permutation, pair
    return np.max([_spearman(part, gap) for part in permuted], axis=0)


def _permutations(n: int, parameters: ReportingParameters) -> NDArray[np.intp]:
    """Return all orders of n, or as many at random as the parameters say; first the natural one."""
    if math.factorial(n) <= parameters.permutations + 1:
        return np.array(list(itertools.permutations(range(n))), dtype=np.intp)
    rng = np.random.default_rng(parameters.permutation_seed)
    drawn = rng.permuted(np.tile(np.arange(n), (parameters.permutations, 1)), axis=1)
    return np.concatenate([np.arange(n)[None], drawn]).astype(np.intp)


def _spearman(distances: NDArray[np.float64], gap: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank correlation of each row with the gaps; −1 where there is none."""
    from scipy.stats import rankdata

    rho = np.full(len(distances), -1.0)
    known = np.isfinite(distances)
    for pattern in np.unique(known, axis=0):
        rows = (known == pattern).all(axis=1)
        if pattern.sum() < _MIN_PAIRS:
            continue
        x = rankdata(distances[rows][:, pattern], axis=1)
        y = rankdata(gap[pattern])
        x, y = x - x.mean(axis=1, keepdims=True), y - y.mean()
        length = np.sqrt((x**2).sum(axis=1) * (y**2).sum())
        rho[rows] = np.divide(x @ y, length, out=np.full(len(x), -1.0), where=length > 0)
    return rho
