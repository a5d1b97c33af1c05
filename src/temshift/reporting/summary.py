"""The summary for programs: ``results.json``."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pandas as pd

import temshift
from temshift.reporting.content import ReportContent, records
from temshift.reporting.schema import SCHEMA_VERSION
from temshift.reporting.sentences import first_sentences, headlines, paper_checks

__all__ = ["summarise"]


def summarise(content: ReportContent) -> dict[str, Any]:
    """Return findings, checks and all tables as JSON values; what is not known is ``None``."""
    tables = {
        "splits": content.splits.reset_index(),
        "matrix": content.matrix,
        "gaps": content.gaps,
        "gains": content.gains,
        "remedies": content.remedies,
        "transfer": content.transfer,
        "confounds": content.confounds,
        "explanation": content.explanation,
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "version": temshift.__version__,
        "simulated_splits": content.simulated,
        "protocols": content.protocols,
        "confidence": content.reporting.confidence,
        "thresholds": {
            "degrades_above": content.reporting.degrades_above,
            "breaks_above": content.reporting.breaks_above,
        },
        "answers": [
            {"verdict": verdict, "sentence": sentence}
            for verdict, sentence in first_sentences(content)
        ],
        "findings": [asdict(finding) for finding in headlines(content)],
        "published_findings": [asdict(check) for check in paper_checks(content)],
        **{name: _records(table) for name, table in tables.items()},
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{k: _value(v) for k, v in row.items()} for row in records(table)]


def _value(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
