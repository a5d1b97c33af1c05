"""Whether what a network is tested on was kept out of its training, as far as the data say."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

__all__ = ["Separation", "separation"]


@dataclass(frozen=True)
class Separation:
    """How well the protocol ``grouped`` kept specimens apart.

    Attributes
    ----------
    specimens, divided : int
        Specimens that are named, and those of them with micrographs in several folds: on both
        sides of training and test (``curation.group_by: micrograph_id``).
    micrographs, ungrouped : int
        Micrographs, and those of them that are a group by themselves: nothing is known of what
        others they belong to, or it is not asked (``curation.group_by: micrograph_id``).
    unnamed : int
        Those of these that name no specimen: two may show the same one.
    """

    specimens: int
    divided: int
    micrographs: int
    ungrouped: int
    unnamed: int

    @property
    def holds(self) -> bool:
        """Whether every network was tested on specimens that it has not seen."""
        return self.divided == 0 and self.unnamed == 0


def separation(results: pd.DataFrame) -> Separation:
    """Return how well specimens were kept apart.

    Parameters
    ----------
    results : DataFrame
        ``protocol, fold, group, specimen_id, micrograph_id``; rows of other protocols do not
        count.
    """
    rows = results[results["protocol"] == "grouped"]
    specimen = rows["specimen_id"].fillna("").astype(str)
    folds = rows[specimen != ""].groupby(specimen[specimen != ""])["fold"].nunique()
    alone = rows["group"].astype(str) == rows["micrograph_id"].astype(str)
    return Separation(
        specimens=len(folds),
        divided=int((folds > 1).sum()),
        micrographs=int(rows["micrograph_id"].nunique()),
        ungrouped=int(rows.loc[alone, "micrograph_id"].nunique()),
        unnamed=int(rows.loc[alone & (specimen == ""), "micrograph_id"].nunique()),
    )
