"""A network between clients and a server that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from live import LOOPBACK, Background

_BLOCK = 4096


def random_cuts(seed: int, max_bytes: int) -> Iterator[int]:
    """Bytes after which streams are cut off, without end."""
    numbers = random.Random(seed)
    while True:
        yield numbers.randint(1, max_bytes)


@dataclass(eq=False, slots=True)
class Link:
    """One connection; `num_left` bytes pass before it is cut off, or all."""

    back: asyncio.StreamWriter
    forth: asyncio.StreamWriter
    num_left: int | None = None
    is_cut: bool = False

    def abort(self) -> None:
        for writer in (self.back, self.forth):
            writer.transport.abort()


class CuttingProxy:
    """Passes connections on, and cuts live streams off on their way; used in a `with`.

    Args:
        target: Port on loopback; may be changed.
        cuts: After so many bytes the first, second ... live stream is cut off; those after are
            left alone.
        counts_requests: Bytes towards the server count too.
        port: To listen on; 0 is any.

    Attributes:
        num_streams: Live streams that were begun.
        num_cuts: Of them, those that were cut off.
    """

    def __init__(
        self,
        target: int,
        cuts: Iterable[int] = (),
        *,
        counts_requests: bool = True,
        port: int = 0,
    ) -> None:
        self.target = target
        self.num_streams = 0
        self.num_cuts = 0
        self._cuts = iter(cuts)
        self._counts_requests = counts_requests
        self._links: set[Link] = set()
        self._background = Background()
        self._server = self._background.run(self._listen(port))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._background.run(self._close())
        self._background.close()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://{LOOPBACK}:{self.port}"

    async def _listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._accept, LOOPBACK, port)

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for link in self._links:
            link.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            server, forth = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            back.transport.abort()
            return
        link = Link(back, forth)
        self._links.add(link)
        ways = [self._send(client, link), self._return(server, link)]
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            link.abort()
            self._links.remove(link)

    async def _send(self, client: asyncio.StreamReader, link: Link) -> None:
        while block := await client.read(_BLOCK):
            # Clients upgrade connections over which they have asked before.
            if b"upgrade: websocket" in block.lower():
                self.num_streams += 1
                link.num_left = next(self._cuts, None)
            if not await self._pass(block, link.forth, link, is_counted=self._counts_requests):
                return

    async def _return(self, server: asyncio.StreamReader, link: Link) -> None:
        while block := await server.read(_BLOCK):
            if not await self._pass(block, link.back, link, is_counted=True):
                return

    async def _pass(
        self, block: bytes, writer: asyncio.StreamWriter, link: Link, *, is_counted: bool
    ) -> bool:
        """Pass a block on; gives whether the connection stands."""
        if is_counted and link.num_left is not None:
            block = block[: link.num_left]
            link.num_left -= len(block)
        with contextlib.suppress(OSError):
            writer.write(block)
            await writer.drain()
            if link.num_left != 0:
                return True
            # Both ways may find that nothing is left.
            self.num_cuts += not link.is_cut
            link.is_cut = True
        return False
