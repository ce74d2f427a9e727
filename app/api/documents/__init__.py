"""The OpenAPI document: declarations, examples, and the whole."""
