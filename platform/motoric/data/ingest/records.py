"""Small tables that people bring: CSV, Parquet or JSON lines, as rows of text and numbers."""

from __future__ import annotations

import io
import json
import posixpath
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from motoric.core import storage
from motoric.core.errors import DatasetError


def read_records(uri: str) -> list[dict[str, Any]]:
    """Rows of a CSV (every value a string), Parquet or JSON lines table.

    Raises:
        DatasetError: It cannot be read as what its name says.
    """
    content = storage.read_bytes(uri)
    suffix = posixpath.splitext(uri)[1].lower()
    try:
        if suffix == ".parquet":
            return list(pq.read_table(io.BytesIO(content)).to_pylist())
        if suffix in (".jsonl", ".ndjson"):
            lines = content.decode("utf-8-sig").splitlines()
            records = [json.loads(line) for line in lines if line.strip()]
            if any(not isinstance(record, dict) for record in records):
                raise DatasetError(f"{uri}: each line must be a JSON object")
            return records
        return _read_csv(content)
    except (pa.ArrowException, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{uri} cannot be read as {suffix or 'CSV'}: {error}") from error


def texts_of(record: dict[str, Any]) -> dict[str, str]:
    """The cells of a row as text; missing ones are empty."""
    return {name: _text(value) for name, value in record.items()}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _read_csv(content: bytes) -> list[dict[str, Any]]:
    if not content.strip():
        return []
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252")  # what spreadsheets write where they do not write UTF-8
    header = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    # Everything as text: an id such as 007 must not become a number.
    names = pcsv.open_csv(
        io.BytesIO(text.encode()), parse_options=pcsv.ParseOptions(delimiter=delimiter)
    ).schema.names
    table = pcsv.read_csv(
        io.BytesIO(text.encode()),
        parse_options=pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pcsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    return list(table.to_pylist())
