"""Image sets and the studies that set them against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from temshift.config.base import EachOnce, Strict, overlay
from temshift.config.preprocessing import PreprocessingParameters

__all__ = ["Condition", "Scalar", "SplitParameters", "StudyParameters"]

Scalar = str | float | int


def _can_be_in_a_table(condition: Any) -> Any:
    """Refuse what no cell equals: true, false and what is no finite number."""
    values = condition.values() if isinstance(condition, Mapping) else condition
    for value in values if isinstance(condition, Mapping | list) else [condition]:
        if isinstance(value, bool):
            text = str(value).lower()
            raise ValueError(
                f"expected numbers or texts; put a text into quotes ('{text}'), as it stands in "
                "the table"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                "expected finite numbers; of a range that is open leave out 'min' or 'max'; "
                "micrographs without a value are in no split"
            )
    return condition


def _can_be_fulfilled(condition: Any) -> Any:
    """Refuse a condition of several parts that do not mean one thing."""
    if isinstance(condition, list) and not condition:
        raise ValueError("expected at least one value in the list; without one nothing is selected")
    if not isinstance(condition, dict):
        return condition
    form = "expected {value}, {value, tolerance}, {min}, {max} or {min, max}"
    if not condition:
        raise ValueError(form)
    if "value" in condition and ("min" in condition or "max" in condition):
        raise ValueError(f"{form}: either a value or a range")
    if "tolerance" in condition and "value" not in condition:
        raise ValueError(f"{form}: 'tolerance' needs the 'value' that it is of")
    if condition.get("tolerance", 0) < 0:
        raise ValueError(f"{form}, with a 'tolerance' of 0 or more")
    if condition.get("min", -math.inf) > condition.get("max", math.inf):
        raise ValueError(f"{form}, with a 'min' that is not above 'max'")
    return condition


Condition = Annotated[
    Scalar | list[Scalar] | dict[Literal["value", "tolerance", "min", "max"], float],
    BeforeValidator(_can_be_in_a_table),
    AfterValidator(_can_be_fulfilled),
]


class SplitParameters(Strict):
    """One image set: the rows of the micrograph table that ``where`` selects, or a curated set.

    Attributes
    ----------
    where : dict
        Column to a value, a list of values, ``{value, tolerance}`` or ``{min, max}``. Which columns
        there are, only the plan knows (:class:`temshift.config.plan.StudyPlan`).
    preprocessing : dict
        Overrides of :class:`PreprocessingParameters` for this split only.
    curated : str, optional
        Name of a set of ready-made patches (files ``<name>_Images.h5`` and ``<name>_Labels.h5``)
        that the split consists of; ``where`` then tells what the set shows. It skips curation and
        preprocessing, and only the protocol ``published`` can be run on it.
    """

    where: dict[str, Condition] = Field(min_length=1)
    preprocessing: dict[str, Any] = {}
    curated: str | None = None

    @field_validator("preprocessing")
    @classmethod
    def _valid_overrides(cls, value: dict[str, Any]) -> dict[str, Any]:
        overlay(PreprocessingParameters(), value)
        return value

    @model_validator(mode="after")
    def _ready_made(self) -> SplitParameters:
        if self.curated is not None and self.preprocessing:
            raise ValueError("a curated set is preprocessed already: it takes no 'preprocessing'")
        return self


class StudyParameters(Strict):
    """A set of splits that differ in one thing, tested crosswise.

    Attributes
    ----------
    title : str, optional
        Its heading in the report; otherwise its name in words.
    varies : str
        What differs: a column of the micrograph table, or ``preprocessing``.
    splits : list of str
        Rows (networks trained on them) and columns (test sets) of the matrix.
    networks : list of str
        Further rows: names in ``networks``.
    """

    title: str | None = None
    varies: str
    splits: Annotated[list[str], Field(min_length=2), EachOnce]
    networks: Annotated[list[str], EachOnce] = []
