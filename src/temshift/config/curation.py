"""How the metadata table and the label images are to be read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from temshift.config.base import Strict, nearest
from temshift.config.contract import MICROGRAPH_COLUMNS

__all__ = ["CurationParameters"]


class CurationParameters(Strict):
    """How the metadata table and the label images are to be read (``curation``).

    Attributes
    ----------
    columns : dict of str to str
        Contract column to the name it has in the table, e.g. ``{dose_e_per_A2: Dosage (e/A2)}``,
        or to a template of such names, e.g. ``{label_path: "masks/{File.stem}.png"}``.
    constants : dict
        Values of contract columns that the table lacks, e.g. ``{material: Au}``.
    date_format : str, optional
        ``strptime`` format of the session column; ISO dates need none.
    label_kind : {"binary", "instance"}
        ``binary``: {0, 1} or {0, 255}; ``instance``: 0 is background, any other value a particle.
    pixel_size_tolerance : float
        Relative difference between header and table above which a warning is given.
    decimal : {".", ","}
        Before the fraction of a number in the table.
    allow_outside : bool
        Whether the table may name files outside the folder of the micrographs: absolute paths, and
        such with ``..``. Links in the folder are followed in any case.
    group_by : {"specimen_id", "micrograph_id", "session"}
        What is kept together when folds are made (protocol ``grouped``); a micrograph of an
        unknown specimen or session is on its own.
    fold_seed : int
        Seed of the order in which groups are given to folds.
    """

    columns: dict[str, str] = {}
    constants: dict[str, Any] = {}
    date_format: str | None = None
    label_kind: Literal["binary", "instance"] = "binary"
    pixel_size_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    decimal: Literal[".", ","] = "."
    allow_outside: bool = False
    group_by: Literal["specimen_id", "micrograph_id", "session"] = "specimen_id"
    fold_seed: Annotated[int, Field(ge=0)] = 20240115

    @field_validator("columns", "constants")
    @classmethod
    def _known_columns(cls, value: dict[str, Any]) -> dict[str, Any]:
        for column in value:
            if column not in MICROGRAPH_COLUMNS:
                raise ValueError(
                    f"unknown column {column!r}; {nearest(column, MICROGRAPH_COLUMNS)}"
                )
        return value
