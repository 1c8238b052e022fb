"""Messages as rows: a key and a payload, the same in the outbox and in every chat log."""

from datetime import datetime
from typing import Any, Protocol

from planes.shared.domain import ChatMessage


class Row(Protocol):
    """Has the members `id`, `tenant_id`, `conversation_id`, `seq` and `payload`."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a member."""
        ...


def payload_of(message: ChatMessage) -> dict[str, object]:
    """Return the part of a message that is not its key, as JSON."""
    return {
        "role": message.role,
        "content": message.content,
        "created_at": message.created_at.isoformat(),
        "citations": message.citations,
        "usage": message.usage,
        "model": message.model,
        "mode": message.mode,
        "finish_reason": message.finish_reason,
        "grounded": message.grounded,
        "unsupported": message.unsupported,
        **({"tool_calls": message.tool_calls} if message.tool_calls else {}),
    }


def message_of(row: Row) -> ChatMessage:
    """Return the message of a row that has its key and its `payload`, here or in the outbox."""
    payload = row["payload"]
    return ChatMessage(
        id=row["id"],
        tenant_id=row["tenant_id"],
        conversation_id=row["conversation_id"],
        seq=row["seq"],
        role=payload["role"],
        content=payload["content"],
        created_at=datetime.fromisoformat(payload["created_at"]),
        citations=payload.get("citations") or [],
        usage=payload.get("usage"),
        model=payload.get("model"),
        mode=payload.get("mode"),
        finish_reason=payload.get("finish_reason"),
        grounded=payload.get("grounded"),
        unsupported=payload.get("unsupported") or [],
        tool_calls=payload.get("tool_calls") or [],
    )
