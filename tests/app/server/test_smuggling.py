"""What one reader of HTTP takes for one message, and another for two, is refused.

After each probe comes a request to a path that is not there: its 404 would show that the service
took for a message of its own what another reader takes for a part of the probe.
"""

from __future__ import annotations

import pytest

from tests.app.api.middleware.test_request_context import read_all
from tests.conftest import LiveServer

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /livez HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(HIDDEN)

REFUSED = {
    "length, then chunked": POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then length": CHUNKED + LENGTH + b"\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\n" + LENGTH + b"\r\n",
    "two lengths in one": POST + b"Content-Length: 0, 35\r\n\r\n",
    "a length twice": POST + LENGTH * 2 + b"\r\n",
    "a length with a sign": POST + b"Content-Length: +5\r\n\r\n",
    "a length with a letter": POST + b"Content-Length: 5x\r\n\r\n",
    "a length of 30 digits": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "an empty length": POST + b"Content-Length: \r\n\r\n",
    "a space in a length": POST + b"Content-Length: 1 0\r\n\r\n",
    "chunked with an x": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n",
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked after a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a tab before the colon": POST + b"Content-Length\t: 0\r\n\r\n",
    "a folded header": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a header before the first": b"POST /livez HTTP/1.1\r\n Host: x\r\n\r\n",
    "NUL in a name": POST + b"Content-Length\0: 0\r\n\r\n",
    "NUL in a value": POST + b"A: b\0c\r\n\r\n",
    "a bare CR in a value": POST + b"A: b\rContent-Length: 0\r\n\r\n",
    "bare LFs": POST.replace(b"\r\n", b"\n") + b"\n",
    "chunked in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"\r\n0\r\n\r\n",
    "a chunk without its end": CHUNKED + b"\r\n1\r\nxx0\r\n\r\n",
    "a chunk's size with a sign": CHUNKED + b"\r\n+1\r\nx\r\n0\r\n\r\n",
    "a chunk's size that overflows": CHUNKED + b"\r\n" + b"f" * 17 + b"\r\nx\r\n0\r\n\r\n",
    "a chunk that ends with LF": CHUNKED + b"\r\n1\nx\n0\n\n",
    "a bare CR in a chunk's extension": CHUNKED + b"\r\n1;a\rb\r\nx\r\n0\r\n\r\n",
    "two hosts": POST + b"Host: y\r\n\r\n",
    "no version": b"GET /livez\r\n\r\n",
    "a version with more digits": b"GET /livez HTTP/1.10\r\nHost: x\r\n\r\n",
}


def statuses(server: LiveServer, data: bytes) -> list[bytes]:
    """Of the answers on a connection until it is closed."""
    with server.connect() as connection:
        connection.sendall(data)
        answer = read_all(connection)
    return [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("probe", REFUSED.values(), ids=REFUSED)
def test_an_ambiguous_message_is_refused_and_ends_its_connection(
    live_server: LiveServer, probe: bytes
) -> None:
    assert statuses(live_server, probe + HIDDEN) == [b"400"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (POST + LENGTH + b"Connection: close\r\n\r\n" + HIDDEN, [b"405"]),
        (
            CHUNKED + b"Connection: close\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
            [b"405"],
        ),
        (
            POST
            + b"Content-Length: 0\r\n\r\n"
            + HIDDEN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            [b"405", b"404"],
        ),
        # RFC 9112, section 3, lets a reader split the line at any blanks.
        (b"GET /livez  HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [b"200"]),
    ],
    ids=["in a body", "in a chunk", "after a body", "two spaces in a line"],
)
def test_a_request_is_one_only_where_it_is_no_body(
    live_server: LiveServer, message: bytes, expected: list[bytes]
) -> None:
    assert statuses(live_server, message) == expected
