"""Every file and every exchange: what is sent, and what the service answers.

V is valid, B is bad; from B41 on they are what the corpus itself, or the code, brought to light.
"""

from __future__ import annotations

from tests.corpus import exchanges, jpeg_rows, other_rows, png_rows

ROWS = [row for rows in (jpeg_rows, png_rows, other_rows) for row in (*rows.VALID, *rows.BAD)]
EXCHANGES = [*exchanges.VALID, *exchanges.BAD]
BOMBS = [row for row in ROWS if row.bomb]
