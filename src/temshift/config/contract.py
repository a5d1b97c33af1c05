"""The data contract: what every column of the micrograph table is, said once.

Reading and checking a table, conditions of splits, comparisons and the report's words all ask
here. Columns of the user's own (:class:`temshift.config.curation.OwnColumn`) become a
:class:`Column` too, and are treated alike from there on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CONTRACT",
    "DERIVED",
    "MICROGRAPH_COLUMNS",
    "Column",
    "ColumnType",
    "in_words",
    "own_column",
]

ColumnType = Literal["text", "number", "count", "date"]


@dataclass(frozen=True)
class Column:
    """A column of the micrograph table.

    Attributes
    ----------
    name : str
        In the table, with its unit.
    type : {"text", "number", "count", "date"}
        ``text``: str, ``""`` if unknown. ``number``: float64, NaN if unknown. ``count``: int64,
        never unknown. ``date``: str, an ISO date (2021-08-26), ``""`` if unknown.
    title : str
        What it is, in words that fit a heading and a sentence: ``"electron dose"``.
    unit : str
        As it is written behind a value; empty if there is none.
    phrase : str
        How a sentence places a network or a test set: ``"trained" + "at {}"``, the value with its
        unit.
    format : str
        Of a number in words.
    confounds : bool
        Whether it describes how a micrograph came about, so that a loss may come from it: such
        columns stand in the table of splits, and are looked through for what else differs.
    required : bool
        Whether every table must have it.
    """

    name: str
    type: ColumnType
    title: str
    unit: str = ""
    phrase: str = "on {}"
    format: str = ".4g"
    confounds: bool = False
    required: bool = False

    @property
    def numeric(self) -> bool:
        """Whether its values can be ordered and averaged."""
        return self.type in ("number", "count")


def in_words(name: str) -> str:
    """Return a name as words: ``"exposure_time_s"`` becomes ``"exposure time s"``."""
    return name.replace("_", " ")


def own_column(
    name: str, type: ColumnType, title: str | None = None, unit: str = "", confounds: bool = True
) -> Column:
    """Return a column of the user's own.

    Its phrase follows from its title: ``"at temperature 295 K"``, ``"on holder B"``.

    Parameters
    ----------
    name : str
    type : {"text", "number", "date"}
    title : str, optional
        Otherwise the name in words, without the unit if it ends in it.
    unit : str
    confounds : bool
    """
    if title is None:
        title = in_words(name.removesuffix(f"_{unit}") if unit else name)
    literal = title.replace("{", "{{").replace("}", "}}")
    phrase = f"{'at' if type == 'number' else 'on'} {literal} {{}}"
    return Column(name, type, title, unit, phrase, confounds=confounds)


def _registry(*columns: Column) -> Mapping[str, Column]:
    return {column.name: column for column in columns}


#: The columns of the micrograph table, in their order.
CONTRACT = _registry(
    Column("micrograph_id", "text", "micrograph"),
    Column("path", "text", "file", required=True),
    Column("label_path", "text", "mask", required=True),
    Column("specimen_id", "text", "specimen"),
    Column("material", "text", "material", confounds=True),
    Column(
        *("diameter_nm", "number", "particle diameter", "nm", "on particles of {}"), confounds=True
    ),
    Column("shape", "text", "particle shape", phrase="on {} particles", confounds=True),
    Column("support", "text", "support film", confounds=True),
    Column("instrument", "text", "instrument", confounds=True),
    Column("session", "date", "session", phrase="on the session of {}", confounds=True),
    Column("dose_e_per_A2", "number", "electron dose", "e/Å²", "at {}", confounds=True),
    Column("pixel_size_nm", "number", "pixel size", "nm/px", "at {}", ".3f", confounds=True),
    Column("defocus_A", "number", "defocus", "Å", "at a defocus of {}", confounds=True),
    Column("source", "text", "source", phrase="on {} micrographs", confounds=True),
    Column("sha256", "text", "hash of the file"),
)

#: What curation measures and decides, beside the columns that are given.
DERIVED = _registry(
    Column("height_px", "count", "height", "px"),
    Column("width_px", "count", "width", "px"),
    Column("header_pixel_size_nm", "number", "pixel size of the header", "nm/px"),
    Column("labelled_share", "number", "labelled share of the area"),
    Column("label_sha256", "text", "hash of the mask's pixels"),
    Column("particle_diameter_px", "number", "particle diameter in the mask", "px"),
    Column("pixel_size_source", "text", "where the pixel size is from"),
    Column("group", "text", "group"),
    Column("fold", "count", "fold"),
)

#: Names of the contract's columns.
MICROGRAPH_COLUMNS = tuple(CONTRACT)
