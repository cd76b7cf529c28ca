"""What a client and its operations share: the configuration, the store, and the way to the coordinator's queue.

The rule: reading needs only the store. The embedded deployment is started, and the queues are connected, by the first
thing that is submitted; the deployment is held until the session is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import time
import warnings
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tilefleet import layout, local
from tilefleet.account import resolved
from tilefleet.config import Config
from tilefleet.errors import TilefleetError
from tilefleet.messages import Cancel, Submit, encode
from tilefleet.records import Control, from_json
from tilefleet.store import Store, Stores, file_url

if TYPE_CHECKING:
    from tilefleet.sqs import SqsQueues

SILENCE_S = 60.0  # five beacons of 2 s make a stand-by take over; a restart under systemd takes less than this

# obstore's threads wake the loop up to 20 ms after an answer; an interpreter that finalises just then aborts (a fifth of
# short scripts did), and a library does not control how its user's program ends.
atexit.register(time.sleep, 0.05)


class DeliveryWarning(UserWarning):
    """A message to the coordinator was not sent; the store holds what it said, so the coordinator finds it later."""


class Session:
    """Connections of one client. ``close`` gives the embedded deployment back."""

    def __init__(self, config: Config) -> None:
        self.config = config = resolved(config)
        self.is_local = config.fleet.kind == "local"
        self.stores = Stores(config.store)
        self.store: Store = self.stores.open(store_url(config))
        self.silence_s = SILENCE_S
        self._held: AsyncExitStack | None = None
        self._deployment: local.Hold | None = None
        self._queues: SqsQueues | None = None
        self._connecting = asyncio.Lock()

    async def connect(self) -> None:
        """Hold the embedded deployment (starting it when none runs) and find the queues. Raises what keeps us from them."""
        async with self._connecting:
            if self._held is not None and self._is_current():
                return
            await self.close()
            self._held = AsyncExitStack()
            try:
                await self._open(self._held)
            except BaseException:
                await self.close()
                raise

    async def tell(self, message: Submit | Cancel) -> None:
        """Send a message. When that fails, warn: the coordinator reads the store now and then, and finds it there."""
        try:
            await self.connect()
            if self._deployment is not None:
                await self._deployment.tell(message)
            elif self._queues is not None:
                await self._queues.operations.send([encode(message)])
        except TilefleetError as error:
            late = f"the coordinator could not be told about operation {message.operation} and will find it later: {error}"
            warnings.warn(late, DeliveryWarning, stacklevel=2)

    async def tell_if_running(self, message: Submit | Cancel) -> None:
        """As ``tell``, but start no deployment: the next one will look into the store."""
        if not self.is_local or await asyncio.to_thread(local.running, self.config) is not None:
            await self.tell(message)

    async def control(self) -> Control | None:
        """The beacon of the newest leader; None when no coordinator has ever run on this store."""
        epochs = [(layout.epoch_of_key(entry.key) or 0, entry.key) async for entry in self.store.entries(layout.CONTROL)]
        if not epochs:
            return None
        key = max(epochs)[1]
        return from_json(bytes(await self.store.get(key)), Control, self.store.url_of(key))

    async def close(self) -> None:
        """Give everything back. The session can be used again."""
        held, self._held, self._queues, self._deployment = self._held, None, None, None
        if held is not None:
            await held.aclose()

    def _is_current(self) -> bool:
        return self._deployment is None or not self._deployment.gone.is_set()

    async def _open(self, held: AsyncExitStack) -> None:
        if self.is_local:
            self._deployment = local.Hold(self.config)
            await held.enter_async_context(self._deployment)
            return
        from tilefleet.sqs import SqsQueues

        queues = await held.enter_async_context(SqsQueues(self.config.queues, self.config.fleet.name))
        await queues.resolve()
        self._queues = queues


def store_url(config: Config) -> str:
    """Where a deployment keeps everything: what its config says, or the state directory of the embedded one."""
    if config.fleet.kind == "remote":
        return resolved(config).store.url
    return file_url(local.state_dir(config) / "store")
