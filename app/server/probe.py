"""Checks the health of a container: `python -m app.server.probe` exits with 0 if it is ready.

Imports nothing of the service, because it runs every few seconds.
"""

import os
import sys
import urllib.request

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # to connect, not to listen


def find_address() -> str:
    """Return the address that the server listens on, as in a URL."""
    host = os.environ.get("MOBILENET_HOST") or "127.0.0.1"
    host = _LOOPBACK.get(host, host)
    port = os.environ.get("MOBILENET_PORT") or "8000"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main() -> int:
    """Ask /readyz; returns the exit code."""
    # The environment's proxy is for other hosts.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{find_address()}/readyz", timeout=2):
            return 0
    except OSError as error:
        sys.stdout.write(f"not ready: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
