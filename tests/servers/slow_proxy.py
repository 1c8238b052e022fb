"""A TCP proxy whose server is as late, as silent or as broken as a test wants it."""

import asyncio

_BLOCK_BYTES = 1 << 16


class SlowProxy:
    """Stands before a server on loopback and passes bytes on, for now.

    Clients keep the proxy's address whatever happens to the server.
    """

    def __init__(self, server_port: int) -> None:
        """Store where the server listens; `open` starts to listen before it."""
        self.port = 0
        self._server_port = server_port
        self._delay_s = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._cut_after_bytes: int | None = None
        self._listener: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._forgotten: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen, on the same port as before where there was one."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._link, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse connections and break those that are open."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()
        if self._links:
            await asyncio.wait(self._links)

    def delay(self, seconds: float) -> None:
        """Hand over every piece of an answer that much later."""
        self._delay_s = seconds

    def stall(self) -> None:
        """Take connections and bytes, and pass nothing on."""
        self._flows.clear()

    def forget(self) -> None:
        """Never pass anything on again over the connections that are open now."""
        self._forgotten = set(self._links)

    def cut(self) -> None:
        """Break every connection now."""
        for writer in self._writers:
            writer.transport.abort()

    def cut_in_the_middle(self, after_bytes: int) -> None:
        """Break every connection once it has carried that much of its server's answers."""
        self._cut_after_bytes = after_bytes

    async def heal(self) -> None:
        """Pass everything on again."""
        self._delay_s, self._cut_after_bytes = 0.0, None
        self._flows.set()
        await self.open()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self._writers.add(writer)
        server: asyncio.StreamWriter | None = None
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self._server_port)
            self._writers.add(server)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(task, reader, server, is_answer=False))
                group.create_task(self._pump(task, answers, writer, is_answer=True))
        except* OSError:
            pass  # one side broke off; so does the other
        finally:
            for each in filter(None, (writer, server)):
                self._writers.discard(each)
                each.transport.abort()
            self._links.discard(task)

    async def _pump(
        self,
        link: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_answer: bool,
    ) -> None:
        carried = 0
        while block := await reader.read(_BLOCK_BYTES):
            await self._flows.wait()
            if link in self._forgotten:
                continue
            if is_answer:
                await asyncio.sleep(self._delay_s)
                carried += len(block)
                if self._cut_after_bytes is not None and carried > self._cut_after_bytes:
                    writer.write(block[: len(block) // 2])
                    raise ConnectionAbortedError
            writer.write(block)
            await writer.drain()
        raise ConnectionAbortedError
