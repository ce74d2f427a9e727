"""Parses what every measurement accepts on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path


def create_parser(
    description: str | None, *, rounds: int, seconds: float
) -> argparse.ArgumentParser:
    """Return a parser of --photos, --rounds and --seconds, with these defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photos", type=Path, help="a folder of *.jpg; made where not given")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="a figure, in each round")
    return parser
