"""Why a shift hurts: whether splits that look more different lose more Dice.

For every pair of splits the distance between their fingerprints is set against the gap of the
network trained on the one and tested on the other. Spearman's rank correlation says how well one
component orders the gaps. It is a description, not a test: the pairs share splits and networks and
are therefore not independent (no p-value is given), several components change together, and a
component that goes along with a drop need not cause it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from temshift.config.plan import StudyPlan
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
    networks do to a gap is not a matter of the images alone.

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
    for row in gaps.to_dict("records"):
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


def explain_gaps(distances: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman's rank correlation of each distance with the gap.

    Returns
    -------
    DataFrame
        ``scope`` (a study or :data:`ALL_STUDIES`), ``protocol, component, n_pairs, n_distances``
        (different values of the distance), ``rho``; NaN for fewer than four pairs or where all
        distances are equal.
    """
    pairs = ["protocol", "train_split", "test_split", "component"]
    scopes = [(ALL_STUDIES, distances.drop_duplicates(pairs))]
    scopes += [(str(study), part) for study, part in distances.groupby("study", sort=False)]
    rows = []
    for scope, table in scopes:
        for (protocol, component), part in table.groupby(["protocol", "component"], sort=False):
            n, n_distances = len(part), part["distance"].round(9).nunique()
            usable = n >= _MIN_PAIRS and n_distances > 1
            rho = part["distance"].corr(part["gap"], method="spearman") if usable else float("nan")
            rows.append(
                {
                    "scope": scope,
                    "protocol": protocol,
                    "component": component,
                    "n_pairs": n,
                    "n_distances": n_distances,
                    "rho": rho,
                }
            )
    columns = ["scope", "protocol", "component", "n_pairs", "n_distances", "rho"]
    return pd.DataFrame(rows, columns=columns)
