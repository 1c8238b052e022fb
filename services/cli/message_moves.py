"""The steps of moving messages from one chat log to another."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from planes.shared.errors import InvalidInput
from planes.shared.stores.chat_log_move import ChatLogMove, MovableLog
from planes.shared.stores.chat_log_settings import CQL, POSTGRES, ChatLogSettings, open_cql_log
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import PostgresChatLog
from services.cli.terminal import console
from services.embedded.installation import Installation
from services.embedded.postgres import PLATFORM_DATABASE

_FOREIGN = (
    "Copying again mends none of what the other log alone has: it was used before, or the one that "
    "is read has lost messages. If these may go, `polyplane stores finish-messages` empties it; "
    "then copy anew, to a cluster under another CQL_KEYSPACE. Conversations of which it has more:"
)


@asynccontextmanager
async def open_move(installation: Installation) -> AsyncIterator[ChatLogMove]:
    """Open database and cluster as the operator.

    Raises:
        InvalidInput: The settings name one log only, or would drop messages.
        Unavailable: The database does not answer.
    """
    settings = installation.settings(ChatLogSettings)
    if not settings.has_cql:
        raise InvalidInput("Set CQL_HOSTS, here and for the platform: there is one chat log only.")
    if settings.cql_ttl_days:
        raise InvalidInput("Unset CQL_TTL_DAYS while messages move: copies would lack old ones.")
    url = installation.servers.owner_url(PLATFORM_DATABASE)
    database = Database(url, service="cli", max_connections=4)
    async with AsyncExitStack() as stack:
        await database.open()
        stack.push_async_callback(database.close)
        cluster = await stack.enter_async_context(open_cql_log(settings, database))
        logs: dict[str, MovableLog] = {POSTGRES: PostgresChatLog(database), CQL: cluster}
        yield ChatLogMove(database, logs)


async def copy_all(move: ChatLogMove, *, target: str) -> bool:
    """Copy and compare all messages, and show how it proceeds; tell whether nothing differs.

    Raises:
        Conflict: They are there already, or on their way to another log.
        InvalidInput: There is no such log.
    """
    if target not in {POSTGRES, CQL}:
        raise InvalidInput(f"A chat log is {POSTGRES} or {CQL}.")
    await move.begin(target)
    async for conversations, messages in move.copy():
        console.print(f"{conversations} conversations, {messages} messages")
    is_equal, foreign = True, list[str]()
    async for one in move.verify():
        is_equal = is_equal and not one.differing
        foreign += map(str, one.foreign)
        result = f"{len(one.differing)} conversations differ" if one.differing else "equal"
        console.print(
            f"{one.tenant_id}  {one.messages[0]} and {one.messages[1]} messages  "
            f"sha256 {one.sha256[0][:16]} and {one.sha256[1][:16]}  {result}",
            markup=False,
        )
    if foreign:
        console.print(_FOREIGN, ", ".join(foreign), markup=False)
    return is_equal


async def told_place(database: Database) -> str:
    """Return a line that says where messages are, and how their move stands.

    Raises:
        Conflict: The database does not know it yet.
        Unavailable: It does not answer.
    """
    move = ChatLogMove(database, {})
    place = await move.place()
    told = ["messages", place.live]
    if place.also is not None:
        verified = await move.verified()
        told.append(f"also written to {place.also}")
        told.append(f"verified {verified['at']}" if verified else "not verified")
    if place.leaving is not None:
        told.append(f"still leave {place.leaving}: run polyplane stores finish-messages again")
    return "  ".join(told)
