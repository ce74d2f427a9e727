"""Writes the OpenAPI document."""
