"""`polyplane stores`: moving between stores, see docs/stores.md."""

from functools import partial
from typing import Annotated

import typer

from planes.shared.stores.chat_log_move import ChatLogMove
from services.cli.admin_generations import Number
from services.cli.desk import at
from services.cli.generation_desk import Desk, at_desk
from services.cli.message_moves import copy_all, open_move, told_place
from services.cli.store_copies import begin_copy, bring_copy_live, build_copy, verify_copy
from services.cli.terminal import console, errors

Target = Annotated[str, typer.Option("--to", help="postgres or cql.")]
app = typer.Typer(
    help="Moving between stores while everything runs.", no_args_is_help=True, add_completion=False
)


@app.command("list")
def list_stores() -> None:
    """List the generations of the index with the store of each, and where messages are."""

    async def show(desk: Desk) -> None:
        for generation in await desk.generations.all():
            copied = f"holds what {generation.copy_of} holds" if generation.copy_of else ""
            known = generation.verified or {}
            verified = f"verified {known['at']}" if known else ""
            store = generation.store or desk.chunks.default
            rest = "  ".join(filter(None, (copied, verified)))
            console.print(
                f"{generation.number:>3}  {generation.state:<9} {store:<9} {rest}", markup=False
            )
        console.print(await told_place(desk.registry), markup=False)

    at_desk(show)


@app.command()
def copy(
    source: Annotated[str, typer.Option("--from", help="Where the index stands now.")],
    target: Annotated[str, typer.Option("--to", help="postgres, mongo or qdrant.")],
) -> None:
    """Copy the index to another store and verify the copy; interrupted, run it again."""

    async def work(desk: Desk) -> int:
        number = await begin_copy(desk, source=source, target=target)
        while True:
            asked_at = await build_copy(desk, number)
            if await verify_copy(desk, number, published_before=asked_at):
                return number
            console.print("What differs or is missing is copied again.")

    number = at_desk(work)
    console.print(f"Next: polyplane stores switch {number}")


@app.command()
def verify(number: Number) -> None:
    """Compare a copy with the live generation, every chunk and vector, tenant by tenant."""

    async def work(desk: Desk) -> bool:
        return await verify_copy(desk, number)

    if not at_desk(work):
        console.print(f"Next: polyplane admin build-generation {number}")
        raise typer.Exit(1)


@app.command()
def switch(
    number: Number,
    force: Annotated[bool, typer.Option(help="Even if it was never verified.")] = False,
) -> None:
    """Search and write in a copy from now on; no request fails, and the other one stays."""

    async def work(desk: Desk) -> str:
        await bring_copy_live(desk, number, unverified=force)
        return (await desk.generations.live()).store or desk.chunks.default

    store = at_desk(work)
    console.print(
        f"The index stands in {store}. Set CHUNK_STORE={store}, so that new generations are made "
        "there. Back: polyplane stores rollback"
    )


@app.command()
def rollback() -> None:
    """Go back to the store before, once it holds what came since."""

    async def work(desk: Desk) -> str:
        previous = await desk.generations.previous()
        await bring_copy_live(desk, previous.number, unverified=True)
        return previous.store or desk.chunks.default

    console.print(f"The index stands in {at_desk(work)} again.")


@app.command("copy-messages")
def copy_messages(target: Target) -> None:
    """Copy all messages to the other chat log and verify them; interrupted, run it again."""
    if not at(open_move, partial(copy_all, target=target)):
        errors.print("Some conversations differ. Run it again, if nothing else is said above.")
        raise typer.Exit(1)
    console.print("Next: polyplane stores switch-messages")


@app.command("switch-messages")
def switch_messages() -> None:
    """Read the other chat log from now on; again: the one before. Both get what is written."""
    place = at(open_move, ChatLogMove.switch)
    console.print(
        f"Messages are read from {place.live}, and still written to {place.also}, too. Back: "
        "polyplane stores switch-messages. For good: polyplane stores finish-messages"
    )


@app.command("finish-messages")
def finish_messages() -> None:
    """Write to the chat log alone that is read, and remove all messages from the other one."""
    console.print(f"Removed {at(open_move, ChatLogMove.finish)} messages from the other log.")
