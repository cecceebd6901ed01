"""JSON and CSV as the project writes them: equal content is equal bytes."""

import json
from pathlib import Path
from typing import Any

import pandas as pd


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write sorted keys, non-ASCII letters as they are, and a line end at the end.

    Raises ValueError for NaN, which is no JSON.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_csv(path: Path, rows: pd.DataFrame) -> None:
    """Write a header and the rows, without pandas' index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False, lineterminator="\n")
