"""`polyplane`: each command is a module, imported when it is asked for.

So a command needs only what its image has installed, and starts quickly.
"""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from services.embedded.marks import HomeRefused

_COMMANDS = (
    "up", "down", "status", "logs", "doctor", "demo", "reset", "migrate", "backup", "restore",
    "models", "eval", "admin", "stores", "benchmark", "costs",
)  # fmt: skip


class _LazyGroup(TyperGroup):
    """A group whose commands are modules of `services.cli`."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"services.cli.{cmd_name}").app)
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HomeRefused as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def _root() -> None:
    """Polyplane: chat with your documents, self-hosted, for many tenants."""


def main() -> None:
    """Run the command line."""
    app()
