"""Image sets and the studies that set them against each other."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from temshift.config.base import Strict, nearest, overlay
from temshift.config.contract import MICROGRAPH_COLUMNS
from temshift.config.preprocessing import PreprocessingParameters

__all__ = ["Condition", "Scalar", "SplitParameters", "StudyParameters"]

Scalar = str | float | int
Condition = Scalar | list[Scalar] | dict[Literal["value", "tolerance", "min", "max"], float]


class SplitParameters(Strict):
    """One image set: the rows of the micrograph table that ``where`` selects, or a curated set.

    Attributes
    ----------
    where : dict
        Column to a value, a list of values, ``{value, tolerance}`` or ``{min, max}``.
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

    @field_validator("where")
    @classmethod
    def _known_columns(cls, value: dict[str, Any]) -> dict[str, Any]:
        for column in value:
            if column not in MICROGRAPH_COLUMNS:
                raise ValueError(
                    f"'where' names the unknown column {column!r}; "
                    f"{nearest(column, MICROGRAPH_COLUMNS)}"
                )
        return value


class StudyParameters(Strict):
    """A set of splits that differ in one thing, tested crosswise.

    Attributes
    ----------
    varies : str
        What differs: a column of the micrograph table, or ``preprocessing``.
    splits : list of str
        Rows (networks trained on them) and columns (test sets) of the matrix.
    networks : list of str
        Further rows: names in ``networks``.
    """

    varies: str
    splits: list[str] = Field(min_length=2)
    networks: list[str] = []

    @field_validator("varies")
    @classmethod
    def _known_axis(cls, value: str) -> str:
        valid = (*MICROGRAPH_COLUMNS, "preprocessing")
        if value not in valid:
            raise ValueError(
                f"'varies' names the unknown column {value!r}; {nearest(value, valid)}"
            )
        return value
