"""Workbooks as people have them, made of the parts that the format is made of; and how each is served."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from support.awkward import Awkward

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
#: Styles by number: general, a date, a moment, a time of day, hours past a day.
GENERAL, DATE, MOMENT, TIME, HOURS = range(5)
_STYLES = (
    f'<styleSheet xmlns="{_MAIN}"><numFmts count="1"><numFmt numFmtId="164" formatCode="[h]:mm:ss"/></numFmts>'
    '<cellXfs count="5"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/><xf numFmtId="21"/>'
    '<xf numFmtId="164"/></cellXfs></styleSheet>'
)


def text(place: str, said: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t>{escape(said)}</t></is></c>'


def cell(place: str, value: object, style: int = GENERAL, kind: str = "n") -> str:
    return f'<c r="{place}" s="{style}" t="{kind}"><v>{value}</v></c>'


def row(number: int, *cells: str) -> str:
    return f'<row r="{number}">{"".join(cells)}</row>'


#: So many columns that their places have two letters, and as few as an answer holds.
_WIDE = 120
HEADER = row(1, text("A1", "a"), text("B1", "b"))


def workbook(
    path: Path,
    sheets: Mapping[str, str],
    *,
    from_1904: bool = False,
    hidden: frozenset[str] = frozenset(),
    before: str = "",
    after: str = "",
) -> Path:
    """`sheets` are rows of XML by name; `before` stands at the head of each sheet's part, `after` behind its rows."""
    listed = "".join(
        f'<sheet name={quoteattr(name)} sheetId="{number}" r:id="rId{number}" '
        f'state="{"hidden" if name in hidden else "visible"}"/>'
        for number, name in enumerate(sheets, start=1)
    )
    parts = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number in range(1, len(sheets) + 1)
    )
    entries = {
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}"><Relationship Id="rId1" Type="{_OFFICE}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><workbookPr date1904="{int(from_1904)}"/>'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}">{parts}'
        f'<Relationship Id="rId0" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "xl/styles.xml": _STYLES,
        **{
            f"xl/worksheets/sheet{number}.xml": f'{before}<worksheet xmlns="{_MAIN}"><sheetData>{rows}</sheetData>'
            f"{after}</worksheet>"
            for number, rows in enumerate(sheets.values(), start=1)
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{content}')
    return path


def workbooks(folder: Path) -> dict[str, Awkward]:
    """By the id of its table."""
    refused: dict[str, Any] = {"kind": "table_unavailable"}
    made = {name: (rows, more) for name, rows, more in _served()}
    found = {
        f"sheet_{name}": Awkward(workbook(folder / f"{name}.xlsx", sheets, **options), rows)
        for name, (rows, (sheets, options)) in made.items()
    }
    two = {
        "Old": row(1, text("A1", "a")) + row(2, cell("A2", 1)),
        "Now": row(1, text("A1", "a")) + row(2, cell("A2", 2)),
    }
    odd = {"Q1 'x'\u202e[1]": two["Old"], "Last": two["Now"]}
    found |= {
        "sheet_hidden": Awkward(workbook(folder / "hide.xlsx", two, hidden=frozenset({"Old"})), "SELECT 2"),
        "sheet_hidden_named": Awkward(folder / "hide.xlsx", "SELECT 1", table={"source_table": "Old"}),
        "sheet_in_small_letters": Awkward(folder / "hide.xlsx", "SELECT 2", table={"source_table": "now"}),
        "sheet_missing": Awkward(folder / "hide.xlsx", says="Old, Now", table={"source_table": "No"}, **refused),
        "sheet_odd": Awkward(workbook(folder / "odd.xlsx", odd), "SELECT 1", table={"source_table": "Q1 'x'[1]"}),
        "sheet_odd_told": Awkward(
            folder / "odd.xlsx", says="Q1 'x'[1], Last", table={"source_table": "\u202eQ"}, **refused
        ),
    }
    macros = folder / "macros.xlsm"
    macros.write_bytes((folder / "hide.xlsx").read_bytes())
    under_another = folder / "really_xlsx.xls"
    under_another.write_bytes(macros.read_bytes())
    sheets = folder / "calc.xlsx"
    _opendocument(sheets)
    old = folder / "old.xlsx"
    old.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 2000)
    plain = folder / "plain.xlsx"
    with zipfile.ZipFile(plain, "w") as packed:
        packed.writestr("a.txt", "a")
    whole = (folder / "hide.xlsx").read_bytes()
    torn = folder / "torn.xlsx"
    torn.write_bytes(whole[: len(whole) // 2])
    return found | {
        "sheet_macros": Awkward(macros, "SELECT 2"),
        "sheet_under_another_name": Awkward(under_another, "SELECT 2"),
        "sheet_of_opendocument": Awkward(sheets, "SELECT 'x', 1::BIGINT"),
        "sheet_old": Awkward(old, says="damaged", **refused),
        "sheet_archive": Awkward(plain, says="damaged", **refused),
        "sheet_torn": Awkward(torn, says="damaged", **refused),
        **hostile(folder),
    }


def _served() -> list[tuple[str, str, tuple[dict[str, str], dict[str, Any]]]]:
    """Name, what it is served as, sheets and options."""

    def one(name: str, rows: str, sheet: str, **options: Any) -> tuple[str, str, tuple[dict[str, str], dict[str, Any]]]:
        return name, rows, ({"S": sheet}, options)

    merged = '<mergeCells count="1"><mergeCell ref="A2:A3"/></mergeCells>'
    never = '<c r="A2"><f>1+1</f></c>'
    wide = "".join(text(f"{_letters(n)}1", f"c{n}") for n in range(_WIDE))
    return [
        one(
            "merged",
            "SELECT 'x', 1::BIGINT UNION ALL SELECT NULL, 2",
            HEADER + row(2, text("A2", "x"), cell("B2", 1)) + row(3, cell("B3", 2)),
            after=merged,
        ),
        one("formula", "SELECT NULL, 2::BIGINT", HEADER + row(2, never, '<c r="B2"><f>1+1</f><v>2</v></c>')),
        one(
            "errors",
            "SELECT NULL, 2::BIGINT UNION ALL SELECT '3', NULL",
            HEADER
            + row(2, cell("A2", "#N/A", kind="e"), cell("B2", 2))
            + row(3, text("A3", "3"), cell("B3", "#DIV/0!", kind="e")),
        ),
        one(
            "dates",
            "SELECT '2023-03-15', '2023-03-15T12:00:00'",
            HEADER + row(2, cell("A2", 45000, DATE), cell("B2", 45000.5, MOMENT)),
        ),
        one(
            "dates_1904",
            "SELECT '2027-03-16', '2027-03-16T12:00:00'",
            HEADER + row(2, cell("A2", 45000, DATE), cell("B2", 45000.5, MOMENT)),
            from_1904=True,
        ),
        one(
            "times",
            "SELECT '06:00:00', '36:00:00' UNION ALL SELECT NULL, '00:00:01'",
            HEADER + row(2, cell("A2", 0.25, TIME), cell("B2", 1.5, HOURS)) + row(3, cell("B3", 1 / 86400, HOURS)),
        ),
        one(
            "booleans",
            "SELECT true, 'false' UNION ALL SELECT false, 'x'",
            HEADER
            + row(2, cell("A2", 1, kind="b"), cell("B2", 0, kind="b"))
            + row(3, cell("A3", 0, kind="b"), text("B3", "x")),
        ),
        one("header_alone", "SELECT 1, 2 LIMIT 0", HEADER),
        one("not_at_a1", "SELECT 1::BIGINT", row(5, text("C5", "a")) + row(6, cell("C6", 1))),
        one(
            "two_headers",
            "SELECT 'a', 'b' UNION ALL SELECT '1', '2'",
            row(1, text("A1", "2024"), text("B1", "2025"))
            + HEADER.replace('r="1"', 'r="2"').replace("1", "2")
            + row(3, cell("A3", 1), cell("B3", 2)),
        ),
        one(
            "same_names",
            "SELECT 1::BIGINT, 2::BIGINT, 3::BIGINT, 4::BIGINT",
            row(1, text("A1", "a"), text("B1", "A"), text("D1", "a_2"))
            + row(2, *(cell(f"{letter}2", n) for n, letter in enumerate("ABCD", start=1))),
        ),
        one("numbers_as_names", "SELECT 1::BIGINT", row(1, cell("A1", 2024)) + row(2, cell("A2", 1))),
        one(
            "whole_and_broken",
            "SELECT 9007199254740991, 0.5 UNION ALL SELECT 2, 1e300",
            HEADER + row(2, cell("A2", 2**53 - 1), cell("B2", 0.5)) + row(3, cell("A3", 2), cell("B3", "1E300")),
        ),
        one("wide", f"SELECT {', '.join(map(str, range(_WIDE)))}", row(1, wide) + row(2, *_numbers(_WIDE))),
    ]


def _numbers(count: int) -> list[str]:
    return [cell(f"{_letters(n)}2", n) for n in range(count)]


def _letters(column: int) -> str:
    before, last = divmod(column, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)


def hostile(folder: Path) -> dict[str, Awkward]:
    """Few bytes that stand for many, and names of files elsewhere."""
    refused: dict[str, Any] = {"kind": "table_unavailable"}
    tenfold = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    entities = f'<!DOCTYPE worksheet [<!ENTITY e0 "ha">{tenfold}<!ENTITY file SYSTEM "file:///etc/hostname">]>'

    def reading(entity: str) -> dict[str, str]:
        return {"S": HEADER + row(2, f'<c r="A2" t="inlineStr"><is><t>&{entity};</t></is></c>')}

    far = {"S": HEADER + row(1_048_576, cell("XFD1048576", 1))}
    return {
        "sheet_empty": Awkward(workbook(folder / "empty.xlsx", {"S": ""}), says="empty", **refused),
        "sheet_none": Awkward(workbook(folder / "none.xlsx", {}), says="no sheet", **refused),
        "sheet_far": Awkward(workbook(folder / "far.xlsx", far), says="more cells", **refused),
        "sheet_of_entities": Awkward(
            workbook(folder / "lol.xlsx", reading("e11"), before=entities), says="damaged", **refused
        ),
        "sheet_of_a_file": Awkward(
            workbook(folder / "file.xlsx", reading("file"), before=entities), says="damaged", **refused
        ),
    }


def _opendocument(path: Path) -> None:
    office = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"
    table = "urn:oasis:names:tc:opendocument:xmlns:table:1.0"
    words = "urn:oasis:names:tc:opendocument:xmlns:text:1.0"

    def said(word: str) -> str:
        return f'<table:table-cell office:value-type="string"><text:p>{word}</text:p></table:table-cell>'

    number = '<table:table-cell office:value-type="float" office:value="1"><text:p>1</text:p></table:table-cell>'
    content = (
        f'<?xml version="1.0"?><office:document-content xmlns:office="{office}" xmlns:table="{table}" '
        f'xmlns:text="{words}"><office:body><office:spreadsheet><table:table table:name="S">'
        f"<table:table-row>{said('a')}{said('b')}</table:table-row><table:table-row>{said('x')}{number}"
        "</table:table-row></table:table></office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        packed.writestr("content.xml", content)
        packed.writestr(
            "META-INF/manifest.xml",
            '<?xml version="1.0"?><manifest:manifest '
            'xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>',
        )
