"""The ports of an embedded cloud."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from shoal.local.services import HOST, PORTS_TO_TRY, listen


def test_clouds_that_start_at_once_get_different_ports():
    with ThreadPoolExecutor(8) as pool:
        listeners = list(pool.map(listen, [46000] * 24))
    ports = {listener.getsockname()[1] for listener in listeners}
    assert len(ports) == 24
    for listener in listeners:
        listener.close()


def test_a_taken_port_is_passed_over_and_none_free_is_told():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with listen(port) as listener:
            assert port < listener.getsockname()[1] < port + PORTS_TO_TRY
    highest = 2**16 - 1
    with (
        socket.create_server((HOST, highest)),
        pytest.raises(OSError, match=f"{highest} to {highest}"),
    ):
        listen(highest)
