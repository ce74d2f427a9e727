"""One file a protocol: a route translates, and decides nothing."""
