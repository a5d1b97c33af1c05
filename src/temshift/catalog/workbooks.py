"""Tables in one Excel workbook, a sheet each."""

from __future__ import annotations

import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pandas as pd
from kedro.io import DatasetError

from temshift.catalog.file_dataset import FileDataset
from temshift.catalog.files import atomic_path

__all__ = ["WorkbookDataset"]

#: Rows of a sheet beside its head (Excel has no more).
_MOST_ROWS = 2**20 - 1

#: Stands wherever a workbook says when it was made, so that the same tables are the same bytes;
#: the earliest time that a ZIP archive can hold.
_NO_TIME = datetime(1980, 1, 1)

#: Characters that a workbook cannot hold.
_XML_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


class WorkbookDataset(FileDataset[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]):
    """An ``.xlsx`` file with a sheet a table. Text is text, also if it looks like a formula.

    The same tables make the same bytes: the file does not say when it was written.

    Parameters
    ----------
    filepath : str
    metadata : dict, optional
        For Kedro plugins; not used here.
    """

    def load(self) -> dict[str, pd.DataFrame]:
        """Return the sheets by their names."""
        return pd.read_excel(Path(self._filepath), sheet_name=None)

    def save(self, data: dict[str, pd.DataFrame]) -> None:
        """Replace the file.

        Raises
        ------
        DatasetError
            A table has more rows than a sheet of Excel.
        """
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.styles import Font
        from openpyxl.writer.excel import ExcelWriter

        book = Workbook(write_only=True)
        for name, table in data.items():
            if len(table) > _MOST_ROWS:
                raise DatasetError(
                    f"{self._filepath}: {len(table)} rows of {name!r} are more than the "
                    f"{_MOST_ROWS} of a sheet. Take the CSV file beside it"
                )
            sheet = book.create_sheet(name)
            sheet.freeze_panes = "B2"
            for i, column in enumerate(table.columns, start=1):
                sheet.column_dimensions[_letter(i)].width = min(60, max(11, len(str(column)) + 2))

            def cell(value: Any, sheet: Any = sheet, bold: bool = False) -> Any:
                if isinstance(value, str):
                    made = WriteOnlyCell(sheet, value=_XML_FORBIDDEN.sub("", value))
                    made.data_type = "s"
                else:
                    made = WriteOnlyCell(sheet, value=None if pd.isna(value) else value)
                if bold:
                    made.font = Font(bold=True)
                return made

            sheet.append([cell(str(column), bold=True) for column in table.columns])
            for row in table.astype(object).itertuples(index=False, name=None):
                sheet.append([cell(value) for value in row])
        book.properties.created = book.properties.modified = _NO_TIME
        with atomic_path(Path(self._filepath)) as temporary:
            # not book.save, which puts in the present time; the writer closes the archive
            ExcelWriter(book, _TimelessArchive(temporary, "w", ZIP_DEFLATED)).save()

    def _exists(self) -> bool:
        return Path(self._filepath).is_file()


class _TimelessArchive(ZipFile):
    """A ZIP archive whose members all have one time, for what openpyxl calls of it."""

    def writestr(self, zinfo_or_arcname: Any, data: Any, *args: Any, **kwargs: Any) -> None:
        """Add a member."""
        super().writestr(self._member(zinfo_or_arcname), data, *args, **kwargs)

    def write(self, filename: Any, arcname: Any = None, *args: Any, **kwargs: Any) -> None:
        """Add a file."""
        with open(filename, "rb") as source, self.open(self._member(arcname), "w") as target:
            shutil.copyfileobj(source, target)

    def _member(self, name: str) -> ZipInfo:
        member = ZipInfo(name, _NO_TIME.timetuple()[:6])
        member.compress_type = self.compression
        return member


def _letter(column: int) -> str:
    from openpyxl.utils import get_column_letter

    return str(get_column_letter(column))
