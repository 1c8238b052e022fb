"""What the operator of the platform does to people, from the command line alone."""

from collections.abc import AsyncIterator

from planes.shared.errors import NotFound
from services.gateway.auth.drafts import Drafts
from services.gateway.auth.models import Person, email_key
from services.gateway.auth.password_policy import personal_words
from services.gateway.auth.people_repository import PeopleRepository, PersonSummary
from services.gateway.auth.sessions import Sessions

_PART = 500


class PeopleService:
    """Disables and enables people, and sets passwords for them."""

    def __init__(
        self,
        repository: PeopleRepository,
        sessions: Sessions,
        drafts: Drafts,
    ) -> None:
        """Store the parts."""
        self._repository = repository
        self._sessions = sessions
        self._passwords = drafts.passwords
        self._policy = drafts.policy

    async def everybody(self) -> AsyncIterator[PersonSummary]:
        """Yield all people, in the order in which they came."""
        last = None
        while part := await self._repository.after(last, _PART):
            for person in part:
                yield person
            last = part[-1].id

    async def reset_password(self, email: str, new: str) -> None:
        """Set a password; ends all sessions, access tokens and API keys.

        Raises:
            NotFound: Nobody has this address.
            InvalidInput: The password is too easy to guess.
        """
        person = await self._find(email)
        words = personal_words(person.email, person.display_name)
        self._policy.check(new, "new_password", words)
        new_hash = await self._passwords.hash(new)
        done = await self._repository.reset_password(person.user_id, new_hash)
        await self._sessions.revoked(done.user_id, done.session_ids, version=done.version)

    async def disable(self, email: str) -> None:
        """Keep somebody out; acts within a second on every gateway.

        Raises:
            NotFound: Nobody has this address.
        """
        person = await self._find(email)
        done = await self._repository.disable(person.user_id)
        await self._sessions.revoked(done.user_id, done.session_ids, version=done.version)

    async def enable(self, email: str) -> None:
        """Let somebody in again, who signs in anew.

        Raises:
            NotFound: Nobody has this address.
        """
        person = await self._find(email)
        await self._repository.enable(person.user_id)

    async def _find(self, email: str) -> Person:
        person = await self._repository.find(email_key(email))
        if person is None:
            raise NotFound("Nobody has this e-mail address.")
        return person
