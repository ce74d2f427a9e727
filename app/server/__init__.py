"""The process: uvicorn, sockets, signals."""
