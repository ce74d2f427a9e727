"""`python -m app.server.probe`: exit code 0 while the server in this container is ready.

For container health checks; imports nothing of the service, because it runs every few seconds.
"""

import os
import sys
import urllib.request

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # to ask it, not to listen


def find_address() -> str:
    """Where to ask, as a URL has it: what the settings listen on, or the loopback of all."""
    host = os.environ.get("MOBILENET_HOST") or "127.0.0.1"
    host = _ANY.get(host, host)
    port = os.environ.get("MOBILENET_PORT") or "8000"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main() -> int:
    """Ask /readyz on the address that the settings name."""
    # A proxy of the environment is for other hosts.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{find_address()}/readyz", timeout=2):
            return 0
    except OSError as error:
        sys.stdout.write(f"not ready: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
