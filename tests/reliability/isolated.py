"""Serves where there is no network and no file can be written, and asks it everything.

`python -m tests.reliability.isolated` is run as root of network and mount namespaces of its own. It
prints as JSON where a file can be made all the same, how many packets found no route meanwhile, and
what was answered otherwise than the corpus says. With `probe` it does not serve, but sends a packet
itself, to show that it would be counted.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from tests.corpus.server import watch
from tests.corpus.table import ROWS

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
_KEPT = {"nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x400, "relatime": 0x200000}
_ELSEWHERE = "192.0.2.1"
"""RFC 5737: nobody's address."""


def raise_loopback() -> None:
    """Bring the only interface up."""
    with socket.socket() as any_socket:
        flags = struct.pack("16sh", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, flags)


def make_read_only() -> None:
    """Mount everything anew, without the right to write."""
    mount = ctypes.CDLL(None, use_errno=True).mount
    if mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "mounts cannot be made private")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target, options = line.split()[4:6]
        kept = sum(flag for name, flag in _KEPT.items() if name in options.split(","))
        target = target.encode().decode("unicode_escape")
        mount(b"none", target.encode(), None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept, None)


def is_writable(directory: str) -> bool:
    """Whether a file can be made there."""
    with suppress(OSError):
        file = Path(directory) / f"written-{os.getpid()}"
        file.write_bytes(b"x")
        file.unlink()
        return True
    return False


def without_route() -> int:
    """Packets that could not leave, so far, by the kernel's count."""
    lines = Path("/proc/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Ip:"))
    return int(values[names.index("OutNoRoutes")])


def differing() -> list[str]:
    """Rows of the corpus that are answered otherwise."""
    wrong = []
    with watch() as server:
        for row in (row for row in ROWS if not row.slow):
            answer = server.client.post("/classify", files={"file": row.make()})
            if answer.status_code != row.status and row.multipart:
                wrong.append(f"{row}: {answer.status_code}")
        large = bytes(10 * 2**20 - 1000)
        if server.client.post("/embed", files={"file": large}).status_code != 415:
            wrong.append("a large body")
        server.check()
    return wrong


def main() -> None:
    """Isolate, serve, tell."""
    raise_loopback()
    make_read_only()
    writable = [one for one in ("/", "/tmp", "/var/tmp", "/dev/shm") if is_writable(one)]  # noqa: S108  # to see that they are not
    before = without_route()
    if "probe" in sys.argv:
        with socket.socket() as probe, suppress(OSError):
            probe.connect((_ELSEWHERE, 80))
        wrong = []
    else:
        wrong = differing()
    told = {"writable": writable, "packets": without_route() - before, "wrong": wrong}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
