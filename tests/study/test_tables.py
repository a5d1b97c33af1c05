"""Foreign tables become the data contract, or say what is wrong with them, all at once."""

import numpy as np
import pandas as pd
import pytest

from temshift.config.contract import MICROGRAPH_COLUMNS
from temshift.config.curation import CurationParameters
from temshift.study.tables import FINDING_COLUMNS, TableError, standardise_table


def table(**columns):
    return pd.DataFrame(
        {"path": ["x/a.dm3", "x/b.dm3"], "label_path": ["x/a.png", "x/b.png"], **columns}
    )


def test_only_paths_must_be_given():
    found, findings = standardise_table(table(), CurationParameters())
    assert tuple(found.columns) == MICROGRAPH_COLUMNS
    assert found["micrograph_id"].tolist() == ["x/a", "x/b"]
    assert found["specimen_id"].tolist() == ["", ""]
    assert found["pixel_size_nm"].isna().all()
    assert found["pixel_size_nm"].dtype == np.float64
    assert findings.empty
    assert tuple(findings.columns) == FINDING_COLUMNS


def test_published_form():
    """A table in the form of the study's: foreign names, its dates, repeated file names."""
    raw = pd.DataFrame(
        {
            "File name": ["Au_01.dm3", "Au_01.dm3"],
            "Date": ["08/26/21", "10/06/21"],
            "Nanoparticle Size (nm)": ["5", "2.2"],
            "Dosage (e/A2)": ["420", ""],
            "Pixel Scale (nm)": ["0.033", "0.02"],
            "Folder": ["2021 Au/Ultrathin Carbon", "2021 2p2nm Au"],
        }
    )
    parameters = CurationParameters(
        columns={
            "path": "{Folder}/{File name}",
            "label_path": "{Folder}/Labels/{File name.stem}_label.png",
            "session": "Date",
            "diameter_nm": "Nanoparticle Size (nm)",
            "dose_e_per_A2": "Dosage (e/A2)",
            "pixel_size_nm": "Pixel Scale (nm)",
        },
        constants={"material": "Au", "source": "published"},
        date_format="%m/%d/%y",
    )
    found, findings = standardise_table(raw, parameters)
    assert findings.empty
    assert found.iloc[0].to_dict() == {
        "micrograph_id": "2021 Au/Ultrathin Carbon/Au_01",
        "path": "2021 Au/Ultrathin Carbon/Au_01.dm3",
        "label_path": "2021 Au/Ultrathin Carbon/Labels/Au_01_label.png",
        "specimen_id": "",
        "material": "Au",
        "diameter_nm": 5.0,
        "shape": "",
        "support": "",
        "instrument": "",
        "session": "2021-08-26",
        "dose_e_per_A2": 420.0,
        "pixel_size_nm": 0.033,
        "defocus_A": pytest.approx(np.nan, nan_ok=True),
        "source": "published",
        "sha256": "",
    }
    assert np.isnan(found["dose_e_per_A2"][1])


def test_ids_of_equal_stems_keep_their_extension():
    raw = pd.DataFrame({"path": ["a.dm3", "a.tif"], "label_path": ["1.png", "2.png"]})
    assert standardise_table(raw, CurationParameters())[0]["micrograph_id"].tolist() == [
        "a.dm3",
        "a.tif",
    ]


def test_cells_that_pandas_has_read_as_numbers_and_dates():
    raw = table(
        micrograph_id=[1, 2],
        specimen_id=[7.0, np.nan],
        session=pd.to_datetime(["2021-08-26", None]),
        dose_e_per_A2=[80, 423],
    )
    found, findings = standardise_table(raw, CurationParameters())
    assert findings.empty
    assert found["micrograph_id"].tolist() == ["1", "2"]
    assert found["specimen_id"].tolist() == ["7", ""]
    assert found["session"].tolist() == ["2021-08-26", ""]
    assert found["dose_e_per_A2"].tolist() == [80.0, 423.0]


def test_every_problem_is_reported_at_once():
    raw = pd.DataFrame(
        {
            "micrograph_id": ["a", "a", "c", ""],
            "path": ["a.dm3", "b.dm3", "c.dm3", ""],
            "label_path": ["a.png", "", "c.png", "d.png"],
            "dose_e_per_A2": ["high", "-3", "80", "inf"],
            "pixel_size_nm": ["0.02", "20000", "", "0"],
            "session": ["26.8.2021", "2021-08-26", "", ""],
            "sha256": ["abc", "", "", ""],
        }
    )
    found, findings = standardise_table(raw, CurationParameters())
    rows = {
        (f["file"], f["column"], f["found"]): f["expected"] for f in findings.to_dict("records")
    }
    assert rows == {
        ("a.dm3", "micrograph_id", "a (also in row 2)"): "a value of its own for every micrograph",
        ("b.dm3", "micrograph_id", "a (also in row 1)"): "a value of its own for every micrograph",
        ("row 4 of the table", "micrograph_id", "nothing"): "given for every micrograph",
        ("row 4 of the table", "path", "nothing"): "given for every micrograph",
        ("b.dm3", "label_path", "nothing"): "given for every micrograph",
        ("a.dm3", "dose_e_per_A2", "high"): "a number, or an empty cell if it is not known",
        ("b.dm3", "dose_e_per_A2", "-3.0"): "a positive number",
        ("row 4 of the table", "dose_e_per_A2", "inf"): (
            "a number, or an empty cell if it is not known"
        ),
        ("b.dm3", "pixel_size_nm", "20000.0"): "a pixel between 0.0001 and 1000 nm",
        ("row 4 of the table", "pixel_size_nm", "0.0"): "a pixel between 0.0001 and 1000 nm",
        ("a.dm3", "session", "26.8.2021"): (
            "a date such as 2021-08-26, or curation.date_format, e.g. '%m/%d/%y'"
        ),
        ("a.dm3", "sha256", "abc"): "64 hexadecimal digits",
    }
    assert set(findings["severity"]) == {"error"}
    assert found["dose_e_per_A2"].isna().tolist() == [True, False, False, True]


def doses(*cells, **parameters):
    """Return the doses read from two cells, and what was found and expected."""
    found, findings = standardise_table(
        table(dose_e_per_A2=list(cells)), CurationParameters(**parameters)
    )
    said = dict(zip(findings["found"], findings["expected"], strict=True))
    assert set(findings["severity"]) <= {"error"}
    return found["dose_e_per_A2"].tolist(), said


@pytest.mark.parametrize(
    ("decimal", "cell", "said"),
    [
        (
            ",",
            "1.500",
            "a number (a thousands separator? write 1500; or a decimal point? write 1,500, or set "
            "curation.decimal: '.')",
        ),
        (",", "40.5", "a number (a decimal point? write 40,5, or set curation.decimal: '.')"),
        (",", "1.500,5", "a number (a thousands separator? write 1500,5)"),
        (",", "1.500.000", "a number (a thousands separator? write 1500000)"),
        (
            ".",
            "-1,500",
            "a number (a thousands separator? write -1500; or a decimal comma? write -1.500, or "
            "set curation.decimal: ',')",
        ),
        (".", "0,500", "a number (a decimal comma? write 0.500, or set curation.decimal: ',')"),
        (".", "1,500,000", "a number (a thousands separator? write 1500000)"),
        (".", "1,500.5", "a number (a thousands separator? write 1500.5)"),
        (".", "1.500,5", "a number (a thousands separator? write 1500.5)"),
        (".", "1 500", "a number (a thousands separator? write 1500)"),
        (".", "1\u202f500", "a number (a thousands separator? write 1500)"),
        (".", "1'500", "a number (a thousands separator? write 1500)"),
        (".", "1.2.3", "a number"),
        (",", "1.500 e/A2", "a number without its unit"),
    ],
)
def test_thousands_and_decimals_are_not_mixed_up(decimal, cell, said):
    """A cell that two people read as two numbers is refused, as it was typed."""
    (refused, read), findings = doses(cell, "40", decimal=decimal)
    assert np.isnan(refused)
    assert read == 40
    assert findings == {cell: said}


def test_numbers_of_a_workbook_and_of_the_parameters_need_no_decimal_comma():
    cells, findings = doses(1500.25, "40,5", decimal=",")
    assert (cells, findings) == ([1500.25, 40.5], {})
    raw = table(Dose=[np.float32(0.5), 1e-5], Grid=[2.5, "2.5"])
    columns = {"dose_e_per_A2": "{Dose}", "specimen_id": "Grid"}
    found, findings = standardise_table(
        raw, CurationParameters(columns=columns, constants={"diameter_nm": 2.2}, decimal=",")
    )
    assert findings.empty
    assert found["dose_e_per_A2"].tolist() == [0.5, 1e-5]
    assert found["diameter_nm"].tolist() == [2.2, 2.2]
    assert found["specimen_id"].tolist() == ["2.5", "2.5"]  # names are no numbers


@pytest.mark.parametrize(
    ("date_format", "cell"),
    [
        ("%d.%m.%y", "26.08.21"),
        ("%d %B %Y", "26 August 2021"),
        ("%Y-%j", "2021-238"),
        ("%d.%m.%Y %H:%M", "26.08.2021 13:05"),
        ("%Y%m%dT%H%M%S%z", "20210826T130500+0200"),
    ],
)
def test_date_formats_of_whole_dates(date_format, cell):
    found, findings = standardise_table(
        table(session=cell), CurationParameters(date_format=date_format)
    )
    assert findings.empty
    assert found["session"].tolist() == ["2021-08-26"] * 2


def test_date_format_that_does_not_fit_is_named():
    _, findings = standardise_table(
        table(session=["26.8.21", "27.8.21"]), CurationParameters(date_format="%m/%d/%y")
    )
    assert findings["expected"][0] == "a date in the form '%m/%d/%y' (curation.date_format)"


def test_missing_columns_are_named_with_their_neighbours():
    raw = pd.DataFrame({"File": ["a.png"], "Folder": ["x"], "material": ["Au"]})
    parameters = CurationParameters(
        columns={"path": "Files", "dose_e_per_A2": "{Fodler}"}, constants={"material": "Ag"}
    )
    with pytest.raises(TableError) as caught:
        standardise_table(raw, parameters)
    text = str(caught.value)
    assert "maps 'path' to 'Files', which the table lacks; did you mean 'File'" in text
    assert "there is no column 'label_path'" in text
    assert "names 'Fodler', which the table lacks; did you mean 'Folder'" in text
    assert "curation.constants gives 'material', which the table has too" in text


def test_empty_table():
    with pytest.raises(TableError, match="no rows"):
        standardise_table(table().iloc[:0], CurationParameters())
