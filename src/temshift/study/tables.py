"""The micrograph table: from the table that somebody has to the data contract.

What its columns are stands in :mod:`temshift.config.contract`; users find it in
``docs/own_images.md``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from numbers import Real
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd

from temshift.config.base import PLAUSIBLE_PIXEL_NM, nearest
from temshift.config.contract import CONTRACT, DERIVED, Column
from temshift.config.curation import CurationParameters
from temshift.config.errors import UserError
from temshift.study.paths import leaves_folder

__all__ = [
    "FINDING_COLUMNS",
    "TableError",
    "finding",
    "findings_table",
    "known_values",
    "standardise_table",
    "typed",
]

_log = logging.getLogger(__name__)

#: Columns of a table of findings: one row a problem.
FINDING_COLUMNS = ("severity", "file", "column", "found", "expected")

#: Columns beside the contract's in the tables that are made of micrograph tables.
_NUMBERS = ("dice", "low", "high", "min", "max")
_COUNTS = ("n_micrographs", "n_groups", "n_patches")

#: What a cell may hold that means nothing (docs/own_images.md), in any case.
_EMPTY = ("", "nan", "none", "<na>", "nat")

#: A number whose thousands are set apart, by one and the same character.
_GROUPED = re.compile(
    r"(?P<whole>[-+]?[1-9]\d{0,2}(?P<mark>[.,'’\s])\d{3}(?:(?P=mark)\d{3})*)"
    r"(?:(?!(?P=mark))[.,](?P<fraction>\d+))?"
)

_PLACEHOLDER = re.compile(r"\{([^{}]+?)(\.stem|\.parent)?\}")


class TableError(UserError):
    """The metadata table cannot be read as a micrograph table."""


def finding(
    severity: Literal["error", "warning"], file: str, column: str, found: Any, expected: str
) -> dict[str, str]:
    """Return one row of a table of findings.

    Parameters
    ----------
    severity : {"error", "warning"}
        An error stops the pipeline, a warning does not.
    file : str
        Micrograph or mask, or the row of the table.
    column : str
        Column of the micrograph table that it is about.
    found, expected : str
    """
    values = (severity, file, column, str(found), expected)
    return dict(zip(FINDING_COLUMNS, values, strict=True))


def findings_table(findings: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """Return findings as a table, errors first, in the order in which they were found."""
    table = pd.DataFrame(list(findings), columns=list(FINDING_COLUMNS), dtype=str)
    return table.sort_values("severity", kind="stable", ignore_index=True)


def standardise_table(
    raw: pd.DataFrame, parameters: CurationParameters
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring a foreign metadata table into the form of the data contract.

    Columns are taken under their own names, those of ``parameters.columns``, or from
    ``parameters.constants``. A name with braces is a template over the table's columns:
    ``"{Folder}/{File name}"``, ``"{Folder}/Labels/{File name.stem}_label.png"``; as in
    :mod:`pathlib`, ``.stem`` is the name without folder and extension, ``.parent`` the folder.
    Without a column for it, ``micrograph_id`` is the path without its
    extension, folder included, since file names may repeat.

    Parameters
    ----------
    raw : DataFrame
        One row a micrograph.
    parameters : CurationParameters

    Returns
    -------
    table : DataFrame
        The columns of :data:`~temshift.config.contract.CONTRACT`, then those of the user's own;
        numbers as float64 (NaN if unknown), all else as str ("" if unknown), dates in ISO form.
    findings : DataFrame
        Every cell that breaks the contract (:data:`FINDING_COLUMNS`); numbers and dates that
        cannot be read are empty in ``table``.

    Raises
    ------
    TableError
        The table is empty, or lacks columns: all that are missing, with the nearest names.
    """
    table = _rename(raw, parameters)
    derived = not table["micrograph_id"].ne("").any()
    if derived:
        ids = table["path"].map(_without_extension)
        table["micrograph_id"] = ids if ids.is_unique else table["path"]
    names = [path or f"row {i + 1} of the table" for i, path in enumerate(table["path"])]
    findings: list[dict[str, str]] = []
    for column in parameters.contract.values():
        cells = table[column.name]
        if column.numeric:
            table[column.name] = _numbers(cells, column.name, parameters.decimal, names, findings)
        elif column.type == "date":
            table[column.name] = _dates(cells, column.name, parameters.date_format, names, findings)
    table["sha256"] = table["sha256"].str.lower()
    if not parameters.allow_outside:
        findings += _outside(table, names)
    findings += [
        broken
        for broken in _broken_rules(table, names)
        if not (derived and broken["column"] == "micrograph_id")  # it is told of the path
    ]
    return table[list(parameters.contract)], findings_table(findings)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Give a table that was read as text its types back, numbers to the last bit.

    Columns of the user's own stay text: what they hold, only the parameters say, and
    :func:`known_values` and the conditions of splits read them accordingly.

    Parameters
    ----------
    table : DataFrame
        Of str: micrographs, measurements, splits or confounds.
    """
    columns = {**CONTRACT, **DERIVED}

    def restored(cells: pd.Series) -> pd.Series:
        name = str(cells.name)
        kind = columns[name].type if name in columns else "text"
        if kind == "number" or name in _NUMBERS or name.endswith(("_min", "_max")):
            return pd.Series([float(c) if c else np.nan for c in cells], cells.index, np.float64)
        if kind == "count" or name in _COUNTS:
            return cells.astype(np.int64)
        return cells

    return pd.DataFrame({name: restored(table[name]) for name in table}, index=table.index)


def known_values(table: pd.DataFrame, column: Column) -> pd.Series:
    """Return the values of a column that are known, of its type; none if it is not there."""
    cells = table[column.name] if column.name in table else pd.Series(dtype=object)
    known = cells[cells.notna() & (cells.astype(str) != "")]
    return known.astype(float if column.numeric else str)


def _rename(raw: pd.DataFrame, parameters: CurationParameters) -> pd.DataFrame:
    """Return a table with all columns of the contract and the user's own as text."""
    if raw.empty:
        raise TableError(
            "The metadata table has no rows",
            "Found a header at most; expected one row a micrograph",
            "Fill it, or name another table in globals.yml",
        )
    named = raw.rename(columns=lambda name: str(name).strip())
    texts, numbers = named.map(_text), named.map(_text, decimal=parameters.decimal)
    problems, columns = [], {}
    for column, kind in parameters.contract.items():
        text, decimal = (numbers, parameters.decimal) if kind.numeric else (texts, ".")
        given = parameters.source(column)
        source = given or column
        if column in parameters.constants:
            if given or column in text:
                problems.append(
                    f"curation.constants gives {column!r}, which the table has too: "
                    "remove one of them"
                )
            constant = _text(parameters.constants[column], decimal)
            columns[column] = pd.Series(constant, index=text.index)
        elif given and "{" in given:
            columns[column] = _fill(text, given, column, problems)
        elif source in text:
            columns[column] = text[source]
        elif given:
            problems.append(
                f"curation.columns maps {column!r} to {given!r}, which the table lacks; "
                f"{nearest(given, text.columns)}"
            )
        elif column in parameters.own:
            problems.append(
                f"curation.columns declares {column!r}, which the table lacks: give its name there "
                f'as from: "<its name>"; {nearest(column, text.columns)}'
            )
        elif CONTRACT[column].required:
            problems.append(
                f"there is no column {column!r}: name the one that holds it in curation.columns, "
                f"e.g. {column}: <its name>, or a template such as "
                f'{column}: "{{Folder}}/{{File.stem}}.png"; {nearest(column, text.columns)}'
            )
        else:
            columns[column] = pd.Series("", index=text.index)
    if problems:
        *others, last = problems
        raise TableError(
            "The metadata table lacks what curation.columns asks for",
            last,
            "Mend curation.columns in the parameters, or the header of the table",
            [f"- {problem}" for problem in others],
        )
    return pd.DataFrame(columns).reset_index(drop=True)


def _text(value: Any, decimal: str = ".") -> str:
    """Return a cell as text, whole numbers without a decimal point, nothing as ``""``.

    What is a number already, as in a workbook, is written with ``decimal``; text stays as typed.
    """
    if isinstance(value, datetime | date):
        return "" if pd.isna(value) else value.strftime("%Y-%m-%d")
    if isinstance(value, float) and np.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, Real):
        value = str(value).replace(".", decimal)
    text = str(value).strip()
    return "" if text.lower() in _EMPTY else text


def _fill(text: pd.DataFrame, template: str, column: str, problems: list[str]) -> pd.Series:
    """Return the texts that a template gives, one a row."""
    fields = {
        whole if (whole := f"{name}{part}") in text else name
        for name, part in _PLACEHOLDER.findall(template)
    }
    missing = sorted(fields - set(text.columns))
    if missing or not fields:
        problems.append(
            f"the template {template!r} of {column!r} names "
            + (f"{missing[0]!r}, which the table lacks; " if missing else "no column; ")
            + nearest(missing[0] if missing else template, text.columns)
        )
        return pd.Series("", index=text.index)

    def fill(row: Mapping[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            if match[0][1:-1] in row:
                return row[match[0][1:-1]]
            path = PurePosixPath(row[match[1]])
            return {".stem": path.stem, ".parent": str(path.parent)}.get(match[2], row[match[1]])

        if not any(row[field] for field in fields):
            return ""
        filled = _PLACEHOLDER.sub(value, template)
        return filled if template.startswith("/") else filled.lstrip("/")  # an empty folder

    rows: list[dict[str, str]] = text.to_dict("records")  # type: ignore[assignment]
    return pd.Series([fill(row) for row in rows], index=text.index)


def _without_extension(path: str) -> str:
    return path[: -len(PurePosixPath(path).suffix) or None]


def _numbers(
    cells: pd.Series, column: str, decimal: str, names: list[str], findings: list[dict[str, str]]
) -> pd.Series:
    """Return text as float64; what is no number is a finding, as it was typed, and NaN."""
    plain = cells.where(cells != "", None)
    if decimal == ",":
        plain = plain.mask(cells.str.contains(".", regex=False)).str.replace(",", ".", regex=False)
    numbers = pd.to_numeric(plain, errors="coerce").astype(np.float64)
    for i in np.flatnonzero((cells != "").to_numpy() & ~np.isfinite(numbers.to_numpy())):
        expected = f"a number{_why_no_number(cells.iloc[i], decimal)}"
        findings.append(finding("error", names[i], column, cells.iloc[i], expected))
    return numbers.where(np.isfinite(numbers))


def _why_no_number(cell: str, decimal: str) -> str:
    """Say what a cell that is no number may have been meant to be."""
    readings = []
    if grouped := _GROUPED.fullmatch(cell):
        whole = re.sub(r"[^-+\d]", "", grouped["whole"])
        fraction = f"{decimal}{grouped['fraction']}" if grouped["fraction"] else ""
        readings.append(f"a thousands separator? write {whole}{fraction}")
    other, name = {".": (",", "comma"), ",": (".", "point")}[decimal]
    if re.fullmatch(rf"[-+]?\d*[{other}]\d+(e[-+]?\d+)?", cell, re.IGNORECASE):
        written = cell.replace(other, decimal)
        readings.append(f"a decimal {name}? write {written}, or set curation.decimal: {other!r}")
    if readings:
        return f" ({'; or '.join(readings)})"
    if re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?\s*[^\d\s.,].*", cell, re.IGNORECASE):
        return " without its unit"
    if not any(c.isdigit() for c in cell):
        return ", or an empty cell if it is not known"
    return ""


def _outside(table: pd.DataFrame, names: list[str]) -> list[dict[str, str]]:
    """Return the paths that leave the folder of the micrographs."""
    expected = "a path below the folder, without '..' (or curation.allow_outside: true)"
    return [
        finding("error", name, column, path, expected)
        for column in ("path", "label_path")
        for name, path in zip(names, table[column], strict=True)
        if leaves_folder(path)
    ]


def _dates(
    cells: pd.Series,
    column: str,
    date_format: str | None,
    names: list[str],
    findings: list[dict[str, str]],
) -> pd.Series:
    """Return text as ISO dates; what is no date is a finding and empty."""
    dates = []
    for name, cell in zip(names, cells, strict=True):
        iso = ""
        if cell:
            try:
                iso = _date(cell, date_format)
            except ValueError:
                wanted = f"in the form {date_format!r} (curation.date_format)"
                if date_format is None:
                    wanted = "such as 2021-08-26, or curation.date_format, e.g. '%m/%d/%y'"
                findings.append(finding("error", name, column, cell, f"a date {wanted}"))
        dates.append(iso)
    return pd.Series(dates, index=cells.index, dtype=str)


def _date(cell: str, date_format: str | None) -> str:
    """Return a date in ISO form; a spreadsheet's own dates, at midnight, are in that already."""
    try:
        return datetime.strptime(cell, date_format or "%Y-%m-%d").date().isoformat()
    except ValueError:
        if not re.match(r"\d{4}-\d\d-\d\d([ T]|$)", cell):
            raise
        return datetime.fromisoformat(cell).date().isoformat()


def _broken_rules(table: pd.DataFrame, names: list[str]) -> list[dict[str, str]]:
    """Return the cells that break the rules of the data contract."""
    import pandera.pandas as pa

    positive = pa.Check.gt(0, error="a positive number")
    low, high = PLAUSIBLE_PIXEL_NM
    plausible = pa.Check.in_range(low, high, error=f"a pixel between {low:g} and {high:g} nm")
    given = pa.Check.str_length(min_value=1, error="given for every micrograph")
    digest = pa.Check.str_matches(r"^([0-9a-f]{64})?$", error="64 hexadecimal digits")
    rules = {
        name: pa.Column(float, nullable=True) if column.numeric else pa.Column()
        for name, column in CONTRACT.items()
    }
    rules |= {
        "micrograph_id": pa.Column(None, given, unique=True),
        "path": pa.Column(None, given, unique=True),
        "label_path": pa.Column(None, given),
        "diameter_nm": pa.Column(float, positive, nullable=True),
        "dose_e_per_A2": pa.Column(float, positive, nullable=True),
        "pixel_size_nm": pa.Column(float, plausible, nullable=True),
        "sha256": pa.Column(None, digest),
    }
    try:
        pa.DataFrameSchema(rules).validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
    else:
        return []
    findings = []
    for case in cases.sort_values(["column", "index"], kind="stable").to_dict("records"):
        row, expected = int(case["index"]), str(case["check"])
        found = case["failure_case"]
        if expected == "field_uniqueness":
            if found == "":
                continue  # missing is told once
            others = table.index[table[case["column"]] == found].difference([row])
            found = f"{found} (also in row {', '.join(str(i + 1) for i in others[:3])})"
            expected = "a value of its own for every micrograph"
        found = "nothing" if found == "" else found
        findings.append(finding("error", names[row], str(case["column"]), found, expected))
    return findings
