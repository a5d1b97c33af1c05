"""The metadata table as its user wrote it: CSV or Excel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from temshift.catalog.file_dataset import FileDataset
from temshift.config.base import close_to, hint
from temshift.config.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MetadataTableDataset", "read_metadata_table"]

#: Extensions of workbooks; everything else is read as text.
WORKBOOKS = (".xlsx", ".xlsm")

#: A workbook under another name, and other zipped files.
_WORKBOOK, _ZIPPED = "an Excel workbook", "a zipped file that is no .xlsx workbook"

#: How files begin (in small letters) that are no text, or no table.
OTHER_KINDS = {
    b"pk\x03\x04": _ZIPPED,
    b"\xd0\xcf\x11\xe0": "an old or a protected Excel workbook",
    b"\x1f\x8b": "a file packed by gzip",
    b"%pdf": "a PDF",
    b"{\\rtf": "a text document",
    b"<?xml": "an XML file",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"<table": "a web page",
}

#: What can be said of how to read.
LOAD_ARGS = ("sep", "encoding", "sheet")

#: Separators that are recognised in a table that seems to have one column.
SEPARATORS = {";": '";"', "\t": r'"\t"', ",": '","', "|": '"|"'}


class MetadataTableDataset(FileDataset["pd.DataFrame", "pd.DataFrame"]):
    """A table of micrographs, CSV (any separator and encoding) or an Excel workbook.

    Cells keep what was typed: text in CSV, and numbers and dates in Excel.

    Parameters
    ----------
    filepath : str
        ``.csv``, ``.txt``, ``.tsv``, ``.xlsx`` or ``.xlsm``.
    load_args : dict, optional
        ``sep`` (between the cells of a text file), ``encoding`` (of a text file: ``utf-8-sig``,
        the default, is UTF-8 with or without Excel's mark) and ``sheet`` (of a workbook: its name,
        or its number from 0).
    metadata : dict, optional
        For Kedro plugins.
    """

    def __init__(
        self,
        filepath: str,
        load_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath, metadata)
        self._load_args = dict(load_args or {})
        for name in self._load_args:
            if name not in LOAD_ARGS:
                raise UserError(
                    f"{filepath}: load_args of the metadata table has an unknown key",
                    f"Found {name!r}; expected {hint(name, LOAD_ARGS)}",
                    "Mend load_args in catalog_data_curation.yml of the environment",
                )

    def load(self) -> pd.DataFrame:
        """Read the table; raise :class:`~temshift.config.errors.UserError` if that fails."""
        return read_metadata_table(Path(self._filepath), **self._load_args)

    def save(self, data: pd.DataFrame) -> None:
        """Refuse: the table is its user's."""
        raise UserError(
            f"{self._filepath}: the metadata table is yours and never written",
            "Found a pipeline that saves to it; expected only readers",
            "Give the pipeline's output a dataset of its own in the catalog",
        )

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), **self._load_args}


def read_metadata_table(
    path: Path, sep: str = ",", encoding: str = "utf-8-sig", sheet: str | int = 0
) -> pd.DataFrame:
    """Read a table of micrographs.

    Parameters
    ----------
    path : Path
    sep, encoding : str
        Of a text file.
    sheet : str or int
        Of a workbook.

    Returns
    -------
    DataFrame
        Text as str, an empty cell as ``""``; in workbooks numbers and dates as such.

    Raises
    ------
    UserError
        The file is missing, empty, a folder, no table, of another encoding or with another
        separator; the workbook lacks the sheet.
    """
    if not path.exists():
        raise UserError(
            f"{path}: the metadata table is not there",
            f"Found no such file; expected a CSV or Excel file{_beside(path)}",
            "Put it there, or mend 'table' in globals.yml of the environment",
        )
    if path.is_dir():
        raise UserError(
            f"{path}: the metadata table is a folder",
            "Found a folder; expected a CSV or Excel file",
            "Mend 'table' in globals.yml of the environment; 'images' there names the folder",
        )
    if path.suffix.lower() in WORKBOOKS:
        return _with_rows_that_say_something(path, _read_workbook(path, sheet))
    content = path.read_bytes()
    if not content.strip():
        raise UserError(
            f"{path}: the metadata table is empty",
            "Found nothing in it; expected a header and one row a micrograph",
            "Save the table again",
        )
    _refuse_other_kinds(path, content)
    return _with_rows_that_say_something(path, _read_text(path, content, sep, encoding))


def _with_rows_that_say_something(path: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """Take the first row as names; leave out empty rows, as spreadsheets append them."""
    names = ["" if name is None else str(name).strip() for name in cells.iloc[0].fillna("")]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UserError(
            f"{path}: two columns of the metadata table have one name",
            f"Found the name {twice[0]!r} {names.count(twice[0])} times; expected every name once",
            "Rename one of them, or delete it",
        )
    table = cells.iloc[1:].set_axis(names, axis=1).loc[:, [bool(name) for name in names]]
    return table[~(table.isna() | (table == "")).all(axis=1)].reset_index(drop=True)


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (nor is there the folder {path.parent})"
    tables = [p.name for p in path.parent.iterdir() if p.suffix.lower() in (".csv", *WORKBOOKS)]
    close = close_to(path.name, tables)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def _refuse_other_kinds(path: Path, content: bytes) -> None:
    """Refuse what is no text, by its first bytes, and say how it becomes a table."""
    start = content[:64].lstrip().lower()
    kind = next((kind for mark, kind in OTHER_KINDS.items() if start.startswith(mark)), None)
    if kind is None:
        return
    if kind == _ZIPPED:
        kind = _kind_of_zip(content)
    remedy = "Let its name end in .xlsx" if kind == _WORKBOOK else "Save it as .xlsx or .csv"
    raise UserError(
        f"{path}: the metadata table is no text file",
        f"Found {kind}; expected CSV, or Excel in a file whose name ends in "
        f"{' or '.join(WORKBOOKS)}",
        f"{remedy} (and mend 'table' in globals.yml)",
    )


def _kind_of_zip(content: bytes) -> str:
    """Say what a zipped file is, by the names of what it holds."""
    import io
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return "a damaged zipped file"
    if "xl/workbook.xml" in names:
        return _WORKBOOK
    if "content.xml" in names:
        return "an OpenDocument file, as LibreOffice writes it"
    return _ZIPPED


def _read_text(path: Path, content: bytes, sep: str, encoding: str) -> pd.DataFrame:
    import io

    import pandas as pd

    text = _decoded(path, content, encoding)
    header = text.lstrip().splitlines()[0]
    other = next((s for s in SEPARATORS if s != sep and s in header), None)
    if sep not in header and other is not None:
        raise UserError(
            f"{path}: the metadata table has one column only",
            f"Found the header {header[:60]!r} with the separator {sep!r}; expected "
            f"{header.count(other) + 1} columns, separated by {other!r}",
            f"Set load_args: sep: {SEPARATORS[other]} in catalog_data_curation.yml of the "
            "environment (and curation.decimal: ',' if its numbers have a decimal comma)",
        )
    try:
        table = pd.read_csv(
            io.StringIO(text),
            sep=sep,
            dtype=str,
            header=None,
            keep_default_na=False,
            skipinitialspace=True,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise UserError(
            f"{path}: the metadata table cannot be divided into columns",
            f"Found rows of different length, or quotes that are not closed, with the separator "
            f"{sep!r} ({_line_of(error)}header: {header[:60]!r}); expected equally long rows",
            "Mend that row (put text with separators into quotes), or set 'sep' in "
            "catalog_data_curation.yml",
        ) from error
    return table


def _line_of(error: Exception) -> str:
    import re

    found = re.search(r"line (\d+)", str(error))
    return f"line {found[1]}; " if found else ""


def _decoded(path: Path, content: bytes, encoding: str) -> str:
    """Return a text file's content; say which encoding it seems to have if it is another."""
    wide = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}.get(content[:2])
    if wide is None and content[1:2] == b"\0" and content[3:4] == b"\0":
        wide = "utf-16-le"
    if wide and not encoding.lower().replace("_", "-").startswith("utf-16"):
        raise _other_encoding(path, "the marks of UTF-16", encoding, wide)
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise UserError(
            f"{path}: there is no encoding {encoding!r}",
            f"Found encoding: {encoding}; expected one of utf-8-sig, utf-16, latin-1, cp1252",
            "Mend it in catalog_data_curation.yml of the environment",
        ) from error
    except UnicodeError as error:
        bad = f"0x{content[error.start]:02x}" if isinstance(error, UnicodeDecodeError) else "none"
        guess = "utf-8-sig" if _is_utf8(content) else "cp1252"
        raise _other_encoding(path, f"the byte {bad}", encoding, guess) from error
    eight_bit = encoding.lower().replace("_", "-") in ("latin-1", "cp1252", "iso-8859-1", "latin1")
    if eight_bit and _is_utf8(content) and not content.isascii():
        raise _other_encoding(path, "the marks of UTF-8", encoding, "utf-8-sig")
    return text


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _other_encoding(path: Path, found: str, encoding: str, guess: str) -> UserError:
    also = " (the encoding of Western Windows; Latin-1 reads the same letters)"
    return UserError(
        f"{path}: the metadata table is not written in {encoding}",
        f"Found {found}; expected {encoding} (encoding in catalog_data_curation.yml)",
        f"Set load_args: encoding: {guess} there{also if guess == 'cp1252' else ''}, or save "
        "the table as CSV UTF-8",
    )


def _read_workbook(path: Path, sheet: str | int) -> pd.DataFrame:
    import zipfile

    import pandas as pd

    try:
        book = pd.ExcelFile(path, engine="openpyxl")
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise UserError(
            f"{path}: the workbook cannot be opened",
            f"Found a file that is damaged or no workbook ({' '.join(str(error).split())[:80]}); "
            "expected .xlsx",
            "Save it again as .xlsx, or as CSV (and mend 'table' in globals.yml)",
        ) from error
    with book:
        names = list(map(str, book.sheet_names))
        if sheet not in names and not (isinstance(sheet, int) and 0 <= sheet < len(names)):
            raise UserError(
                f"{path}: the workbook has no sheet {sheet!r}",
                f"Found {len(names)} sheets; expected {hint(str(sheet), names)}",
                "Mend load_args: sheet in catalog_data_curation.yml of the environment",
            )
        table = pd.read_excel(
            book, sheet_name=sheet, header=None, dtype=object, keep_default_na=False, na_values=[]
        )
    if table.empty:
        raise UserError(
            f"{path}: the sheet {sheet!r} is empty",
            "Found nothing in it; expected a header and one row a micrograph",
            "Name another sheet in catalog_data_curation.yml ('sheet')",
        )
    return table
