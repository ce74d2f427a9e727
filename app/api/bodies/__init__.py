"""Reads and writes bodies: uploads, JSON, arrays."""
