"""Feedback as clients give it and see it."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import BaseModel, Field

from services.gateway.schemas import InputModel, Text

Rating = Literal["up", "down"]


class FeedbackInput(InputModel):
    """What somebody says of an answer."""

    message_id: UUID = Field(description="Of the answer: `message.id` of `POST /chat`.")
    rating: Rating
    comment: Annotated[Text, Field(max_length=4000)] | None = Field(
        default=None, examples=["It cites last year's handbook."]
    )
    correction: Annotated[Text, Field(max_length=32_000)] | None = Field(
        default=None,
        description="What the answer should have been.",
        examples=["Two years, and three for batteries."],
    )


class CitedPlace(BaseModel):
    """Where an answer's citation points; what stands there is in the document."""

    marker: str = Field(examples=["[1]"])
    document_id: UUID
    version: int
    page: int | None
    start: int
    end: int


class Feedback(BaseModel):
    """What somebody said of an answer, with the model that wrote it and what it cites."""

    id: UUID
    message_id: UUID
    user_id: UUID
    rating: Rating
    comment: str | None
    correction: str | None
    model: str = Field(examples=["extractive"])
    citations: list[CitedPlace]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """Return the public form of a row."""
        return cls(**{name: row[name] for name in cls.model_fields})
