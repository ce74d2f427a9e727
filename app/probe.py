"""`python -m app.probe`: exit code 0 while the server in this container is ready.

For container health checks; imports nothing of the service, because it runs every few seconds.
"""

import os
import sys
import urllib.request


def main() -> int:
    """Ask /readyz on the port that the settings name."""
    port = os.environ.get("MOBILENET_PORT", "8000")
    # A proxy of the environment is for other hosts.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=2):
            return 0
    except OSError as error:
        sys.stdout.write(f"not ready: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
