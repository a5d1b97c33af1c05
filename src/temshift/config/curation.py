"""How the metadata table and the label images are to be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from temshift.config.base import NAME, Strict, nearest
from temshift.config.contract import CONTRACT, DERIVED, Column, own_column

__all__ = ["CurationParameters", "OwnColumn"]

#: Names that tables or parameters use otherwise.
_TAKEN = frozenset(
    {*DERIVED, "preprocessing", "split", "study", "varies", "protocol", "network", "test_split"}
    | {"n_micrographs", "n_groups", "n_patches", "dice", "low", "high", "column", "value"}
)


class OwnColumn(Strict):
    """A column of the user's own, which the data contract does not know (``curation.columns``).

    It is kept in the micrograph table and can be used wherever one of the contract's can: in
    ``splits.where``, in ``studies.varies`` and in the report.

    Attributes
    ----------
    from_ : str, optional
        (``from``) its name in the metadata table, or a template of such names; otherwise it has
        the same name there.
    type : {"number", "text", "date"}
        Numbers take conditions ``{min, max}`` and ``{value, tolerance}``, and are compared by their
        ranges; dates are read by ``curation.date_format``.
    unit : str
        As the report writes it behind a value.
    title : str, optional
        What it is, in words: ``temperature``; otherwise its name.
    confounds : bool
        Whether a loss may come from it: then the report tells where it differs together with what
        a study varies. Set it to false for numbers of a run, remarks and the like.
    """

    from_: str | None = Field(default=None, alias="from")
    type: Literal["number", "text", "date"]
    unit: str = ""
    title: str | None = None
    confounds: bool = True


_Source = Annotated[
    Annotated[str, Tag("name")] | Annotated[OwnColumn, Tag("own")],
    Discriminator(lambda entry: "name" if isinstance(entry, str) else "own"),
]


class CurationParameters(Strict):
    """How the metadata table and the label images are to be read (``curation``).

    Attributes
    ----------
    columns : dict of str to str or OwnColumn
        Contract column to the name it has in the table, e.g. ``{dose_e_per_A2: Dosage (e/A2)}``,
        or to a template of such names, e.g. ``{label_path: "masks/{File.stem}.png"}``. A column
        that is not of the contract is declared: ``{temperature_K: {from: Temp, type: number}}``.
        ``null`` removes an entry that an environment inherits.
    constants : dict
        Values of columns that the table lacks, e.g. ``{material: Au}``.
    date_format : str, optional
        ``strptime`` format of the session and of dates of one's own (day, month and year); ISO
        dates need none.
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

    columns: dict[str, _Source] = {}
    constants: dict[str, Any] = {}
    date_format: str | None = None
    label_kind: Literal["binary", "instance"] = "binary"
    pixel_size_tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    decimal: Literal[".", ","] = "."
    allow_outside: bool = False
    group_by: Literal["specimen_id", "micrograph_id", "session"] = "specimen_id"
    fold_seed: Annotated[int, Field(ge=0)] = 20240115

    @field_validator("date_format")
    @classmethod
    def _day_month_and_year(cls, value: str | None) -> str | None:
        if value is None or _reads_dates(value):
            return value
        meant = _directives(value)
        raise ValueError(
            "expected day, month and year as strptime writes them, "
            + (f"{meant!r}" if _reads_dates(meant) else "e.g. '%d.%m.%Y' for 26.08.2021")
            + " (null reads ISO dates such as 2021-08-26)"
        )

    @field_validator("columns", mode="before")
    @classmethod
    def _known_or_declared(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        given = {name: entry for name, entry in value.items() if entry is not None}
        for name, entry in given.items():
            if isinstance(entry, str):
                if name not in CONTRACT:
                    raise ValueError(
                        f"unknown column {name!r}; {nearest(name, CONTRACT)}. For a column of your "
                        f'own say its type: {name}: {{from: "{entry}", type: number}} (or text, '
                        "date)"
                    )
            else:
                _check_own_name(name)
        return given

    @model_validator(mode="after")
    def _known_constants(self) -> CurationParameters:
        for name in self.constants:
            if name not in self.contract:
                raise ValueError(
                    f"'constants' names the unknown column {name!r}; {nearest(name, self.contract)}"
                )
        return self

    @property
    def own(self) -> dict[str, OwnColumn]:
        """Columns of the user's own, in the order declared."""
        return {name: c for name, c in self.columns.items() if isinstance(c, OwnColumn)}

    @property
    def contract(self) -> dict[str, Column]:
        """All columns of the micrograph table: the contract's, then the user's own."""
        own = {
            name: own_column(name, c.type, c.title, c.unit, c.confounds)
            for name, c in self.own.items()
        }
        return {**CONTRACT, **own}

    def source(self, name: str) -> str | None:
        """Return the name or template that ``columns`` gives for a column, if it gives one."""
        entry = self.columns.get(name)
        return entry.from_ if isinstance(entry, OwnColumn) else entry


def _reads_dates(date_format: str) -> bool:
    """Say whether dates written in a format are read as the same dates."""
    for date in (datetime(2021, 8, 26, tzinfo=UTC), datetime(2024, 1, 5, tzinfo=UTC)):
        try:
            if datetime.strptime(date.strftime(date_format), date_format).date() != date.date():
                return False
        except (ValueError, re.error):  # a directive that is not known, or stands there twice
            return False
    return True


def _directives(date_format: str) -> str:
    """Return the ``strptime`` form of what spreadsheets write as DD.MM.YYYY or TT.MM.JJJJ."""

    def directive(run: re.Match[str]) -> str:
        letter, length = run[1].lower(), len(run[0].lstrip("%"))
        if letter in "dt":
            return "%d"
        if letter in "yj":
            return "%y" if length == 2 else "%Y"
        return {3: "%b", 4: "%B"}.get(length, "%m") if letter == "m" else run[0]

    return re.sub(r"%?([a-z])\1*", directive, date_format, flags=re.IGNORECASE)


def _check_own_name(name: Any) -> None:
    """Refuse a name that is taken, or that cannot stand in a table's head."""
    if name in CONTRACT:
        raise ValueError(
            f"{name!r} is a column of the data contract, whose type and unit are fixed: give only "
            f'the name it has in your table, {name}: "<its name>"; or choose another name for a '
            "column of your own"
        )
    if not re.fullmatch(NAME, str(name)):
        raise ValueError(
            f"{name!r} cannot be the name of a column: letters, digits and _ are allowed, a letter "
            "first, e.g. temperature_K; the name it has in your table goes into 'from'"
        )
    known = {other.lower(): other for other in (*CONTRACT, *sorted(_TAKEN))}
    if (other := known.get(name.lower())) is not None:
        raise ValueError(
            f"{name!r} cannot be the name of a column of your own, since {other!r} has a meaning "
            f"already: choose another, e.g. my_{name}"
        )
    if name.endswith(("_min", "_max")):
        raise ValueError(
            f"{name!r} cannot be the name of a column of your own: the tables of results append "
            f"_min and _max to names; choose another, e.g. {name[-3:]}_{name[:-4]}"
        )
