import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, socket, sys
{first}
import motoric.cluster.worker_loopback
assert ("grpc" in sys.modules) == {is_imported}, "workers that need no gRPC must not import it"
import grpc, grpc.aio

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("[::]:0")
    await server.start()
    for line in open("/proc/net/tcp6").readlines()[1:] + open("/proc/net/tcp").readlines()[1:]:
        address, state = line.split()[1], line.split()[3]
        host, _, found = address.partition(":")
        if int(found, 16) == port and state == "0A":
            print(host)
    await server.stop(0)

asyncio.run(main())
"""
# 127.0.0.1, as IPv4 and mapped into IPv6, in the kernel's byte order.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.mark.parametrize("is_imported", [False, True])
def test_servers_on_every_interface_come_to_loopback(is_imported):
    first = "import grpc.aio" if is_imported else ""
    program = PROGRAM.format(first=first, is_imported=is_imported)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    hosts = set(done.stdout.split())
    assert hosts
    assert hosts <= LOOPBACK
