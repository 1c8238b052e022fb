"""What routes ask for; `create_app` puts each service on the application's state."""

from typing import Annotated

from fastapi import Depends, Request

from services.gateway.billing.service import BillingService
from services.gateway.chat.conversations import ConversationService
from services.gateway.chat.service import ChatService
from services.gateway.chat.streams import StreamService
from services.gateway.documents.receiving import Receiver
from services.gateway.documents.search import SearchService
from services.gateway.documents.service import DocumentService
from services.gateway.documents.versions import Versions
from services.gateway.feedback.service import FeedbackService
from services.gateway.openai.embeddings import EmbeddingService
from services.gateway.openai.service import OpenAIApi
from services.gateway.tenants.assembly import TenantFeature
from services.gateway.tenants.audit_list import AuditList
from services.gateway.tenants.deletion import TenantDeletionService
from services.gateway.tenants.export import TenantExport
from services.gateway.tenants.invitations import InvitationService
from services.gateway.tenants.members import MemberService
from services.gateway.tenants.service import TenantService


async def _documents(request: Request) -> DocumentService:
    service: DocumentService = request.app.state.documents
    return service


async def _search(request: Request) -> SearchService:
    service: SearchService = request.app.state.search
    return service


async def _chat(request: Request) -> ChatService:
    service: ChatService = request.app.state.chat
    return service


async def _streams(request: Request) -> StreamService:
    service: StreamService = request.app.state.streams
    return service


async def _conversations(request: Request) -> ConversationService:
    service: ConversationService = request.app.state.conversations
    return service


async def _openai(request: Request) -> OpenAIApi:
    service: OpenAIApi = request.app.state.openai
    return service


async def _embeddings(request: Request) -> EmbeddingService:
    service: EmbeddingService = request.app.state.embeddings
    return service


async def _feedback(request: Request) -> FeedbackService:
    service: FeedbackService = request.app.state.feedback
    return service


async def _billing(request: Request) -> BillingService:
    service: BillingService = request.app.state.billing
    return service


async def _tenants(request: Request) -> TenantFeature:
    feature: TenantFeature = request.app.state.tenants
    return feature


_TenantFeatureDep = Annotated[TenantFeature, Depends(_tenants)]


async def _tenant(tenants: _TenantFeatureDep) -> TenantService:
    return tenants.tenants


async def _members(tenants: _TenantFeatureDep) -> MemberService:
    return tenants.members


async def _invitations(tenants: _TenantFeatureDep) -> InvitationService:
    return tenants.invitations


async def _audit(tenants: _TenantFeatureDep) -> AuditList:
    return tenants.audit


async def _tenant_export(tenants: _TenantFeatureDep) -> TenantExport:
    return tenants.export


async def _tenant_deletions(tenants: _TenantFeatureDep) -> TenantDeletionService:
    return tenants.deletions


async def _receiver(request: Request) -> Receiver:
    receiver: Receiver = request.app.state.receiver
    return receiver


async def _versions(request: Request) -> Versions:
    versions: Versions = request.app.state.versions
    return versions


ReceiverDep = Annotated[Receiver, Depends(_receiver)]
VersionsDep = Annotated[Versions, Depends(_versions)]
DocumentServiceDep = Annotated[DocumentService, Depends(_documents)]
SearchServiceDep = Annotated[SearchService, Depends(_search)]
ChatServiceDep = Annotated[ChatService, Depends(_chat)]
StreamServiceDep = Annotated[StreamService, Depends(_streams)]
ConversationServiceDep = Annotated[ConversationService, Depends(_conversations)]
EmbeddingServiceDep = Annotated[EmbeddingService, Depends(_embeddings)]
FeedbackServiceDep = Annotated[FeedbackService, Depends(_feedback)]
OpenAIApiDep = Annotated[OpenAIApi, Depends(_openai)]
BillingServiceDep = Annotated[BillingService, Depends(_billing)]
TenantServiceDep = Annotated[TenantService, Depends(_tenant)]
MemberServiceDep = Annotated[MemberService, Depends(_members)]
InvitationServiceDep = Annotated[InvitationService, Depends(_invitations)]
AuditListDep = Annotated[AuditList, Depends(_audit)]
TenantExportDep = Annotated[TenantExport, Depends(_tenant_export)]
TenantDeletionServiceDep = Annotated[TenantDeletionService, Depends(_tenant_deletions)]
