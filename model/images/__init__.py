"""Turns untrusted image bytes into pixels."""
