"""What every measurement can be told on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path


def create_parser(
    description: str | None, *, rounds: int, seconds: float
) -> argparse.ArgumentParser:
    """A parser of the photos, the rounds and the seconds, with these by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", type=Path, help="a folder of *.jpg; made where not given")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument(
        "--seconds", type=float, default=seconds, help="for each figure in each round"
    )
    return parser
