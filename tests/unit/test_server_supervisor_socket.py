"""A socket that lets nobody in keeps those who are in already."""

from __future__ import annotations

import socket
import sys

import pytest

from asof.server.process.supervisor import listening_socket, refuse_callers


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's filter is Linux's")
def test_nobody_connects_any_more_and_who_is_in_the_queue_is_served():
    with listening_socket("127.0.0.1", 0, 16) as listening, socket.create_connection(listening.getsockname()) as early:
        early.sendall(b"asked")

        refuse_callers(listening)

        with pytest.raises(TimeoutError):
            socket.create_connection(listening.getsockname(), timeout=0.05)
        taken = listening.accept()[0]
        early.sendall(b" more")
        taken.sendall(b"answer")
        assert early.recv(16) == b"answer"
        received = b""
        while len(received) < 10:
            received += taken.recv(16)
        assert received == b"asked more"
        taken.close()
