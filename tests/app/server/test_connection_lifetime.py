"""How long a connection lives: its deadlines, and an answer before the end of the body."""

from __future__ import annotations

import pytest

from tests.app.server.test_connection import GET, MEBI, POST, Connection

pytestmark = pytest.mark.anyio


@pytest.fixture
async def connection() -> Connection:
    return Connection()


async def test_a_client_that_sends_nothing_is_closed_without_a_word(connection: Connection) -> None:
    connection.loop.advance(4.9)
    assert connection.open
    connection.loop.advance(0.1)
    assert connection.transport.ended == ["close"]
    assert connection.transport.written == b""


async def test_headers_that_trickle_are_a_request_timeout(connection: Connection) -> None:
    for byte in GET[:9]:
        await connection.send(bytes([byte]))
        connection.loop.advance(0.5)
    assert connection.open
    connection.loop.advance(0.5)
    assert (connection.statuses, connection.code) == ([408], "request_timeout")
    assert b"connection: close" in connection.transport.written
    connection.loop.advance(1)
    assert connection.transport.ended == ["write_eof", "close"]


async def test_every_request_has_its_own_time_for_headers(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    connection.loop.advance(20)
    await connection.send(GET)
    connection.loop.advance(4.9)
    assert connection.open
    connection.loop.advance(0.1)
    assert connection.statuses == [200, 408]


async def test_blank_lines_do_not_keep_a_connection(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    for _ in range(10):
        await connection.send(b"\r\n")
        connection.loop.advance(0.5)
    assert not connection.open


async def test_a_pipelined_head_has_time_while_an_answer_is_due(connection: Connection) -> None:
    await connection.send(GET.replace(b"/", b"/held", 1) + b"\r\n" + GET)
    connection.loop.advance(60)
    assert connection.open
    connection.app.gate.set()
    await connection.send(b"\r\n")
    assert connection.statuses == [200, 200]


async def test_an_idle_connection_is_closed(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    connection.loop.advance(29.9)
    assert connection.open
    connection.loop.advance(0.1)
    assert connection.transport.ended == ["close"]
    assert connection.statuses == [200]


async def test_a_connection_needs_no_new_timer_for_a_request(connection: Connection) -> None:
    for _ in range(1000):
        await connection.send(GET + b"\r\n")
    assert connection.loop.timers == 1


async def test_nothing_goes_off_when_the_client_has_left(connection: Connection) -> None:
    connection.protocol.connection_lost(None)
    assert connection.loop.waiting == 0


async def test_a_client_that_never_reads_is_cut_off(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    connection.transport.unread = 16 * MEBI
    connection.protocol.pause_writing()
    connection.loop.advance(19.9)
    assert connection.open
    connection.loop.advance(0.1)
    assert connection.transport.ended == ["abort"]


async def test_a_client_that_reads_slowly_may_go_on(connection: Connection) -> None:
    await connection.send(GET.replace(b"/", b"/held", 1) + b"\r\n")
    for left in range(16, 0, -1):
        connection.transport.unread = left * MEBI
        if left == 16:
            connection.protocol.pause_writing()
        connection.loop.advance(19.9)
        assert connection.open
    connection.transport.unread = 0
    connection.protocol.resume_writing()
    connection.loop.advance(100)
    assert connection.open


async def test_a_client_that_has_read_has_its_whole_time_again(connection: Connection) -> None:
    await connection.send(GET + b"\r\n")
    for _ in range(2):
        connection.transport.unread = MEBI
        connection.protocol.pause_writing()
        connection.loop.advance(12)
        connection.transport.unread = 1000
        connection.protocol.resume_writing()
    assert connection.open


@pytest.mark.parametrize("last", ["idle", "eof", "close"])
async def test_what_nobody_reads_does_not_keep_a_connection_that_closes(
    connection: Connection, last: str
) -> None:
    connection.transport.unread = 100
    if last == "eof":
        connection.protocol.eof_received()
    elif last == "close":
        await connection.send(GET.replace(b"/", b"/?close", 1) + b"\r\n")
    else:
        await connection.send(GET + b"\r\n")
        connection.loop.advance(30)
    connection.loop.advance(20)
    assert connection.transport.ended[-1] == "abort"


async def test_the_rest_of_a_body_is_passed_over_and_the_connection_kept(
    connection: Connection,
) -> None:
    await connection.send(POST.replace(b"/", b"/early", 1) + b"Content-Length: 1000\r\n\r\nhalf")
    await connection.send(b"x" * 996)
    connection.loop.advance(29.9)
    await connection.send(GET + b"\r\n")
    assert connection.statuses == [200, 200]
    connection.loop.advance(30)
    assert connection.transport.ended == ["close"]


async def test_the_rest_of_a_body_must_be_short(connection: Connection) -> None:
    head = POST.replace(b"/", b"/early", 1)
    await connection.send(head + b"Content-Length: 1000000000\r\n\r\n")
    for _ in range(16):
        await connection.send(bytes(65_536))
    assert connection.open
    await connection.send(b"x")
    assert connection.transport.ended == ["abort"]


async def test_the_rest_of_a_body_must_come_in_time(connection: Connection) -> None:
    await connection.send(POST.replace(b"/", b"/early", 1) + b"Content-Length: 1000\r\n\r\nhalf")
    for _ in range(15):
        assert connection.open
        connection.loop.advance(1)
        await connection.send(b"x")
    assert connection.transport.ended == ["close"]


@pytest.mark.parametrize("ending", ["silence", "flood"])
async def test_a_client_that_is_still_sending_can_read_the_last_answer(
    connection: Connection, ending: str
) -> None:
    head = POST.replace(b"/", b"/early?close", 1)
    await connection.send(head + b"Content-Length: 1000000000\r\n\r\n")
    assert connection.statuses == [200]
    assert connection.transport.ended == ["write_eof"]
    await connection.send(bytes(MEBI))
    assert connection.transport.ended == ["write_eof"]
    if ending == "flood":
        await connection.send(b"x")
    else:
        connection.loop.advance(1)
    assert connection.transport.ended == ["write_eof", "abort" if ending == "flood" else "close"]
