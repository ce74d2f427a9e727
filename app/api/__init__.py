"""The HTTP API: FastAPI and ASGI. Translates between protocols and the core; decides nothing."""
