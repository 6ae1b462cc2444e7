"""The demo's histograms as a picture; matplotlib takes longer to load than a unit test may."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pytest

from asof.demo.histograms import PANELS, draw_histograms

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("values", [[1, 2, 2, 30], []])
def test_the_picture_is_a_png_wider_than_high(tmp_path: Path, values: list[int]) -> None:
    columns = dict(zip(PANELS, (values, [0] * len(values), [0] * len(values)), strict=True))
    table = pa.table({name: pa.array(column, pa.int64()) for name, column in columns.items()})
    draw_histograms(table, tmp_path / "histograms.png")
    written = (tmp_path / "histograms.png").read_bytes()

    assert written[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", written[16:24])
    assert width > 2 * height > 800
