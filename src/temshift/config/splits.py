"""Image sets and the studies that set them against each other."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from temshift.config.base import Strict, overlay
from temshift.config.preprocessing import PreprocessingParameters

__all__ = ["Condition", "Scalar", "SplitParameters", "StudyParameters"]

Scalar = str | float | int
Condition = Scalar | list[Scalar] | dict[Literal["value", "tolerance", "min", "max"], float]


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
    splits: list[str] = Field(min_length=2)
    networks: list[str] = []
