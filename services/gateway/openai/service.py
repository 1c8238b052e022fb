"""OpenAI's API on the platform's own services: what is asked there is asked here."""

from collections.abc import Awaitable, Callable

from planes.shared.domain import ChatMode
from planes.shared.errors import Unavailable
from services.gateway.admin.health import ServingMonitor
from services.gateway.auth.models import Account
from services.gateway.chat.answers import Answer
from services.gateway.chat.conversations import ConversationService
from services.gateway.chat.schemas import ChatAnswer, Question
from services.gateway.chat.service import Asked, ChatService
from services.gateway.idempotency.service import Effect
from services.gateway.openai.errors import no_model
from services.gateway.openai.messages import conversation_of
from services.gateway.openai.schemas import CompletionRequest, Model, Models

ANY_MODEL = "polyplane"
"""The name of whichever model the operator has chosen."""


class OpenAIApi:
    """Answers with the chat service; every question is a conversation of its own.

    That conversation is not listed: the client sends it anew with each question. It carries the
    bill, the log and feedback, as that of any other answer does.
    """

    def __init__(
        self, chat: ChatService, conversations: ConversationService, monitor: ServingMonitor
    ) -> None:
        """Store the parts."""
        self._chat = chat
        self._conversations = conversations
        self._monitor = monitor

    def models(self) -> Models:
        """Return the models that answer and embed now.

        Raises:
            Unavailable: The serving plane has not said yet.
        """
        names = [self._generator(), ANY_MODEL]
        if self._monitor.embedding_model is not None:
            names.append(self._monitor.embedding_model)
        return Models(data=[Model(id=name, created=0) for name in names])

    def model(self, name: str) -> Model:
        """Return one model.

        Raises:
            ModelNotFound: It does not answer here.
            Unavailable: The serving plane has not said yet which do.
        """
        for model in self.models().data:
            if model.id == name:
                return model
        raise no_model(name)

    async def whole(
        self,
        account: Account,
        request: CompletionRequest,
        effect: Effect,
        client_left: Callable[[], Awaitable[object]],
    ) -> ChatAnswer:
        """Answer, or tell again what was answered, as `ChatService.whole` does.

        Raises:
            ModelNotFound: The model does not answer here.
            PlatformError: As `ChatService.whole`.
        """
        if effect.answered is not None:
            return await self._conversations.settled_answer(account.context, effect.answered)
        return await self._chat.whole(account, self._asked(request, effect), client_left)

    async def stream(
        self, account: Account, request: CompletionRequest, effect: Effect
    ) -> Answer | ChatAnswer:
        """Return an answer that has begun, or one that was given before.

        The caller says `hang_up` when nobody reads it any more; then it ends.

        Raises:
            ModelNotFound: The model does not answer here.
            PlatformError: As `ChatService.stream`.
        """
        if effect.answered is not None:
            return await self._conversations.settled_answer(account.context, effect.answered)
        return await self._chat.stream(account, self._asked(request, effect))

    def _generator(self) -> str:
        if self._monitor.model == "*":
            raise Unavailable("The serving plane has not said yet which model answers.")
        return self._monitor.model

    def _asked(self, request: CompletionRequest, effect: Effect) -> Asked:
        if request.model not in {ANY_MODEL, self._generator()}:
            raise no_model(request.model)
        told = conversation_of(request.messages)
        question = Question(
            message=told.question,
            mode=request.mode or ChatMode.RAG,
            document_ids=request.document_ids,
            top_k=request.top_k,
            max_tokens=request.max_completion_tokens or request.max_tokens,
        )
        return Asked(
            question,
            effect=effect,
            history=told.history,
            wishes=told.wishes,
            client_tools=request.client_tools,
            rounds=told.rounds,
            is_listed=False,
            is_resumable=effect.is_keyed or not request.stream,
        )
