"""What routes ask for; `create_app` puts each service on the application's state."""

from typing import Annotated

from fastapi import Depends, Request

from services.gateway.billing.service import BillingService
from services.gateway.chat.conversations import ConversationService
from services.gateway.chat.service import ChatService
from services.gateway.documents.search import SearchService
from services.gateway.documents.service import DocumentService


async def _documents(request: Request) -> DocumentService:
    service: DocumentService = request.app.state.documents
    return service


async def _search(request: Request) -> SearchService:
    service: SearchService = request.app.state.search
    return service


async def _chat(request: Request) -> ChatService:
    service: ChatService = request.app.state.chat
    return service


async def _conversations(request: Request) -> ConversationService:
    service: ConversationService = request.app.state.conversations
    return service


async def _billing(request: Request) -> BillingService:
    service: BillingService = request.app.state.billing
    return service


DocumentServiceDep = Annotated[DocumentService, Depends(_documents)]
SearchServiceDep = Annotated[SearchService, Depends(_search)]
ChatServiceDep = Annotated[ChatService, Depends(_chat)]
ConversationServiceDep = Annotated[ConversationService, Depends(_conversations)]
BillingServiceDep = Annotated[BillingService, Depends(_billing)]
