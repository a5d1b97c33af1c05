"""What the report is made of: the study's tables and parameters, and simple questions to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import BaseModel

from temshift.config.modelling import ModellingParameters
from temshift.config.plan import StudyPlan
from temshift.config.preprocessing import PreprocessingParameters
from temshift.config.reporting import ReportingParameters
from temshift.learning.examples import Example

__all__ = ["ReportContent", "plain", "records"]


@dataclass(frozen=True)
class ReportContent:
    """The results of a run.

    Attributes
    ----------
    plan : StudyPlan
    reporting, modelling, preprocessing
        The typed parameters.
    parameters : dict
        All parameters of the run as plain values.
    results, matrix, gaps, gains, confounds, splits : DataFrame
        As made by :mod:`temshift.study.statistics`; ``splits`` has the split as its index.
    fingerprints, distances, explanation : DataFrame
        As made by :mod:`temshift.study.explain`; ``fingerprints`` has the split as its index.
    histories : DataFrame
        ``network, protocol, fold, step, epoch, train_loss, validation_loss, validation_dice``.
    examples : dict of str to list of Example
        Of each network.
    """

    plan: StudyPlan
    reporting: ReportingParameters
    modelling: ModellingParameters
    preprocessing: PreprocessingParameters
    parameters: dict[str, Any]
    results: pd.DataFrame
    matrix: pd.DataFrame
    gaps: pd.DataFrame
    gains: pd.DataFrame
    confounds: pd.DataFrame
    splits: pd.DataFrame
    fingerprints: pd.DataFrame
    distances: pd.DataFrame
    explanation: pd.DataFrame
    histories: pd.DataFrame
    examples: dict[str, list[Example]]

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
        splits = splits.set_index("split")
        for column in _SPLIT_TEXT:
            splits[column] = [_in_words(column, value) for value in splits[column]]
        return cls(
            plan=StudyPlan.from_parameters(parameters),
            reporting=ReportingParameters.model_validate(plain(parameters["reporting"])),
            modelling=ModellingParameters.model_validate(plain(parameters["modelling"])),
            preprocessing=PreprocessingParameters.model_validate(
                plain(parameters["preprocessing"])
            ),
            parameters=plain(dict(parameters)),
            splits=splits,
            fingerprints=fingerprints.set_index("split"),
            **tables,
        )

    @property
    def protocols(self) -> list[str]:
        """Protocols with results, in the order of the parameters, then any other."""
        found = set(self.results["protocol"])
        return [p for p in dict.fromkeys([*self.modelling.protocols, *sorted(found)]) if p in found]

    @property
    def protocol(self) -> str:
        """The protocol from which the sentences speak."""
        return self.protocols[0]

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


_SPLIT_TEXT = (
    *("source", "material", "diameter_nm", "shape", "support", "session"),
    *("dose_e_per_A2", "pixel_size_nm", "protocol"),
)


def plain(value: Any) -> Any:
    """Return parameters as plain values, whether or not they have been validated already."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def _in_words(column: str, value: Any) -> str:
    """Return a cell of the split table as it was written: CSV turns "5" into a number."""
    if value is None or pd.isna(value):
        return ""
    try:
        number = float(value)
    except ValueError:
        return str(value)
    return f"{number:.3f}" if column == "pixel_size_nm" else f"{number:g}"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, column name to value."""
    return [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
