"""The page at /, and the server-sent events that feed it."""
