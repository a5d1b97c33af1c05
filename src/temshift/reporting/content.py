"""What the report is made of: the study's tables and parameters, and simple questions to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from temshift.config.base import plain
from temshift.config.contract import Column
from temshift.config.curation import CurationParameters
from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.reporting import ReportingParameters
from temshift.learning.examples import Example
from temshift.study.run_facts import RunFacts
from temshift.study.separation import Separation, separation

__all__ = ["ReportContent", "protocols_of", "range_in_words", "records"]


@dataclass(frozen=True)
class ReportContent:
    """The results of a run.

    Attributes
    ----------
    plan : StudyPlan
    reporting, modelling, preprocessing, curation
        The typed parameters.
    parameters : dict
        All parameters of the run as plain values.
    results, matrix, gaps, gains, confounds, splits : DataFrame
        As made by :mod:`temshift.study.statistics`; ``splits`` has the split as its index.
    remedies : DataFrame
        As made by :mod:`temshift.study.remedies`.
    transfer : DataFrame
        As made by :mod:`temshift.study.transfer`.
    fingerprints, distances, explanation : DataFrame
        As made by :mod:`temshift.study.explain`; ``fingerprints`` has the split as its index.
    histories : DataFrame
        ``network, protocol, fold, restart, step, epoch, train_loss, validation_loss,
        validation_dice``.
    integrity : DataFrame, optional
        What the integrity check found (:mod:`temshift.study.integrity`).
    examples : dict of str to list of Example
        Of each network.
    facts : RunFacts, optional
        When, by which code and on which machine the report is written.
    """

    plan: StudyPlan
    reporting: ReportingParameters
    modelling: ModellingParameters
    preprocessing: PreprocessingParameters
    curation: CurationParameters
    parameters: dict[str, Any]
    results: pd.DataFrame
    matrix: pd.DataFrame
    gaps: pd.DataFrame
    gains: pd.DataFrame
    remedies: pd.DataFrame
    transfer: pd.DataFrame
    confounds: pd.DataFrame
    splits: pd.DataFrame
    fingerprints: pd.DataFrame
    distances: pd.DataFrame
    explanation: pd.DataFrame
    histories: pd.DataFrame
    examples: dict[str, list[Example]]
    integrity: pd.DataFrame | None = None
    facts: RunFacts | None = None

    @classmethod
    def from_tables(
        cls,
        parameters: Mapping[str, Any],
        *,
        splits: pd.DataFrame,
        fingerprints: pd.DataFrame,
        **tables: Any,
    ) -> ReportContent:
        """Take the tables as the catalog gives them, and the parameters of the environment."""
        gaps, gains, remedies = (tables.pop(name) for name in ("gaps", "gains", "remedies"))
        transfer = tables.pop("transfer")
        direction = transfer["direction"].astype(object).fillna("")
        words = ["remedy", "effect", "reason", "suggestion"]  # CSV has no empty text
        remedies = remedies.assign(**{w: remedies[w].astype(object).fillna("") for w in words})
        return cls(
            plan=StudyPlan.from_parameters(parameters),
            reporting=ReportingParameters.model_validate(plain(parameters["reporting"])),
            modelling=ModellingParameters.model_validate(plain(parameters["modelling"])),
            preprocessing=PreprocessingParameters.model_validate(
                plain(parameters["preprocessing"])
            ),
            curation=CurationParameters.model_validate(plain(parameters.get("curation") or {})),
            parameters=plain(dict(parameters)),
            splits=splits.set_index("split"),
            fingerprints=fingerprints.set_index("split"),
            gaps=gaps.assign(reason=gaps["reason"].astype(object).fillna("")),
            gains=gains.assign(reason=gains["reason"].astype(object).fillna("")),
            remedies=remedies,
            transfer=transfer.assign(direction=direction),
            **tables,
        )

    @property
    def protocols(self) -> list[str]:
        """Protocols with results, in the order of the parameters, then any other."""
        return protocols_of(self.results, self.modelling)

    @property
    def protocol(self) -> str:
        """The protocol from which the sentences speak."""
        return self.protocols[0]

    @property
    def separation(self) -> Separation:
        """How well specimens were kept apart in training and test (protocol ``grouped``)."""
        return separation(self.results)

    @property
    def sources(self) -> dict[str, list[str]]:
        """Splits of each source; the key is empty where the table does not say."""
        found: dict[str, list[str]] = {}
        for split, source in self.splits["source"].items():
            found.setdefault(str(source), []).append(str(split))
        return found

    @property
    def simulated(self) -> list[str]:
        """Splits of simulated micrographs."""
        is_simulated = self.splits["source"].astype(str).str.contains("simulat", case=False)
        return [str(split) for split in self.splits.index[is_simulated]]

    @property
    def unit(self) -> str:
        """The independent unit, which is never divided and which intervals count: one word."""
        return self.plan.columns[self.curation.group_by].title

    def range_of(self, split: str, column: str) -> tuple[float, float]:
        """Return the smallest and the largest number that a split holds; NaN where it has none."""
        if f"{column}_min" not in self.splits or split not in self.splits.index:
            return float("nan"), float("nan")
        low, high = (self.splits[f"{column}_{end}"] for end in ("min", "max"))
        return float(low[split]), float(high[split])

    def value(self, split: str, column: str) -> str:
        """Return what a split holds in a column, in words and with its unit; or empty."""
        if column in self.plan.columns and self.plan.columns[column].numeric:
            return range_in_words(self.plan.columns[column], *self.range_of(split, column))
        if column not in self.splits or split not in self.splits.index:
            return ""
        return str(self.splits[column][split])

    def cell(self, network: str, split: str, protocol: str | None = None) -> pd.Series | None:
        """Return a cell of the matrices, or ``None`` where the network was not tested."""
        m = self.matrix
        chosen = (m["network"] == network) & (m["test_split"] == split)
        rows = m[chosen & (m["protocol"] == (protocol or self.protocol))]
        return None if rows.empty else rows.iloc[0]

    def study_gaps(self, study: str, protocol: str | None = None) -> pd.DataFrame:
        """Return the gaps of one study under one protocol."""
        g = self.gaps
        return g[(g["study"] == study) & (g["protocol"] == (protocol or self.protocol))]

    def default_gaps(self, study: str, protocol: str | None = None) -> pd.DataFrame:
        """Return the gaps of the study's own splits' networks: the shifts that it studies."""
        gaps = self.study_gaps(study, protocol)
        return gaps[gaps["network"].isin(self.plan.studies[study].splits)]

    def studies_of(self, column: str) -> list[str]:
        """Return the studies that vary a column of the micrograph table."""
        return [name for name, study in self.plan.studies.items() if study.varies == column]


def protocols_of(table: pd.DataFrame, modelling: ModellingParameters) -> list[str]:
    """Return the protocols in a table, in the order of the parameters, then any other.

    Sentences and charts of gaps speak of the first; tables hold all.
    """
    found = set(table["protocol"])
    return [p for p in dict.fromkeys([*modelling.protocols, *sorted(found)]) if p in found]


def range_in_words(column: Column, low: float, high: float) -> str:
    """Return the numbers that a column holds: ``421 – 425 e/Å²``; empty where there are none."""
    if not np.isfinite([low, high]).all():
        return ""
    first, last = f"{low:{column.format}}", f"{high:{column.format}}"
    words = first if first == last else f"{first} – {last}"
    return f"{words.replace('-', '−')} {column.unit}".rstrip()


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, column name to value."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
