"""Escapes control characters of text that a client or a file gave."""


def escape(text: str) -> str:
    """Text as one line that cannot move a terminal's cursor; escapes are Python's."""
    return text if text.isprintable() else ascii(text)[1:-1]
