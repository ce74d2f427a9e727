"""Untrusted image bytes -> pixels."""
