"""Splits: the image sets that conditions on the metadata select."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from temshift.config.base import hint
from temshift.config.contract import CONTRACT, Column
from temshift.config.errors import UserError
from temshift.config.splits import SplitParameters
from temshift.study.tables import known_values

__all__ = ["SplitError", "select_split", "select_splits"]

#: Relative difference up to which a number in a table equals the one asked for.
RELATIVE_TOLERANCE = 1e-4


class SplitError(UserError):
    """A split whose conditions no micrograph fulfils."""


def select_split(
    table: pd.DataFrame,
    name: str,
    split: SplitParameters,
    columns: Mapping[str, Column] = CONTRACT,
) -> pd.DataFrame:
    """Return the micrographs that fulfil all conditions of a split.

    A condition is a value (numbers are equal within 1e-4 of it, texts exactly), a list of values,
    ``{value, tolerance}`` (tolerance in the unit of the column, ends included) or
    ``{min, max}`` (either may be left out, ends included). Unknown values fulfil no condition.

    Parameters
    ----------
    table : DataFrame
        Micrograph table.
    name : str
        Of the split, for the messages.
    split : SplitParameters
    columns : mapping of str to Column
        What the columns hold.

    Returns
    -------
    DataFrame
        Rows of ``table``, in its order, with a new index.

    Raises
    ------
    SplitError
        Nothing is selected. The message lists, for each condition, how many micrographs fulfil
        it and the values of the column that come nearest. Or the table lacks a column.
    """
    for column in split.where:
        if column not in table:
            raise SplitError(
                f"splits.{name}.where asks for {column!r}, which the table of micrographs lacks",
                f"Found {column!r}; expected {hint(column, table.columns)}",
                f"Mend splits.{name}.where, or declare the column in curation.columns",
            )
    fulfilled = {
        column: _fulfils(table[column], condition, columns[column].numeric)
        for column, condition in split.where.items()
    }
    selected = np.logical_and.reduce(list(fulfilled.values()))
    if not selected.any():
        conditions = []
        for column, rows in fulfilled.items():
            others = np.logical_and.reduce(
                [r for c, r in fulfilled.items() if c != column] or [np.ones(len(table), bool)]
            )
            conditions.append(
                f"{column}: {split.where[column]!r} is fulfilled by {rows.sum()}; "
                f"{_nearest(table, columns[column], split.where[column], others)}"
            )
        raise SplitError(
            f"Split {name!r} selects none of {len(table)} micrographs (splits.{name}.where)",
            ". ".join(conditions),
            f"Mend splits.{name}.where in the parameters, or the table; null removes a split or a "
            "study that is inherited from conf/base",
        )
    return table[selected].reset_index(drop=True)


def select_splits(
    table: pd.DataFrame,
    splits: Mapping[str, SplitParameters],
    columns: Mapping[str, Column] = CONTRACT,
) -> dict[str, pd.DataFrame]:
    """Return the micrographs of several splits.

    Raises
    ------
    SplitError
        All splits that select nothing.
    """
    selected: dict[str, pd.DataFrame] = {}
    problems: list[SplitError] = []
    for name, split in splits.items():
        try:
            selected[name] = select_split(table, name, split, columns)
        except SplitError as error:
            problems.append(error)
    if problems:
        *others, last = problems
        details = [f"- {e.what}: {e.found}" for e in others]
        raise SplitError(last.what, last.found, last.remedy, details)
    return selected


def _fulfils(column: pd.Series, condition: Any, numeric: bool) -> np.ndarray:
    """Return which cells of a column fulfil a condition."""
    if isinstance(condition, Mapping):
        numbers = _as_numbers(column)
        low, high = condition.get("min", -np.inf), condition.get("max", np.inf)
        if "value" in condition:
            tolerance = condition.get("tolerance", _slack(condition["value"]))
            low, high = condition["value"] - tolerance, condition["value"] + tolerance
        # ends are included, whatever the last bit of a sum is
        return (numbers >= low - _slack(low, 1e-9)) & (numbers <= high + _slack(high, 1e-9))
    values = condition if isinstance(condition, list) else [condition]
    return np.logical_or.reduce([_equals(column, value, numeric) for value in values])


def _equals(column: pd.Series, value: Any, numeric: bool) -> np.ndarray:
    if numeric:
        try:
            wanted = float(value)
        except ValueError:
            return np.zeros(len(column), bool)
        return np.abs(_as_numbers(column) - wanted) <= _slack(wanted)
    return (column.astype(str) == str(value)).to_numpy()


def _as_numbers(column: pd.Series) -> np.ndarray:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64)


def _slack(value: float, relative: float = RELATIVE_TOLERANCE) -> float:
    return relative * abs(value) if np.isfinite(value) else 0.0


def _nearest(table: pd.DataFrame, column: Column, condition: Any, others: np.ndarray) -> str:
    """Say which values of a column come nearest to a condition.

    Of the micrographs that fulfil all other conditions (``others``), if there are any.
    """
    among = "where the other conditions hold" if others.any() else "in the table"
    cells = table.loc[others, column.name] if others.any() else table[column.name]
    if column.numeric:
        values = np.unique(known_values(cells.to_frame(), column))
        wanted = [w for w in _numbers(condition) if np.isfinite(w)]
        if wanted:
            distance = np.abs(values[:, None] - np.array(wanted)).min(axis=1)
            values = np.sort(values[np.argsort(distance, kind="stable")[:5]])
        shown = [f"{value:g}" for value in values]
    else:
        known = sorted(set(cells.astype(str)) - {""})
        wanted_text = condition if isinstance(condition, list) else [condition]
        close = [c for w in wanted_text for c in difflib.get_close_matches(str(w), known, 5, 0.3)]
        shown = [repr(value) for value in list(dict.fromkeys(close or known))[:5]]
    if not shown:
        return f"the column is empty {among}"
    return f"nearest values {among}: {', '.join(shown)}"


def _numbers(condition: Any) -> list[float]:
    if isinstance(condition, Mapping):
        return [float(condition[key]) for key in ("value", "min", "max") if key in condition]
    values = condition if isinstance(condition, list) else [condition]
    return [float(v) for v in values if not isinstance(v, str)]
