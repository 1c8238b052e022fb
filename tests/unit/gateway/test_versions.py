"""The claim `sv`: two numbers in one."""

from hypothesis import assume, given
from hypothesis import strategies as st

from services.gateway.limits.versions import Version

versions = st.builds(Version, st.integers(0, 2**24 - 1), st.integers(0, 2**29 - 1))


@given(versions)
def test_a_claim_says_both_numbers(version: Version) -> None:
    assert Version.of_claim(version.claim) == version
    assert version.claim < 2**53, "exact in every JSON parser"


@given(versions)
def test_a_claim_rises_with_either_number(version: Version) -> None:
    assume(version.user < 2**24 - 1)
    assert Version(version.user + 1, version.membership).claim > version.claim
    assert Version(version.user, version.membership + 1).claim > version.claim


def test_a_claim_from_before_memberships_had_versions_is_the_users() -> None:
    assert Version.of_claim(7) == Version(7, 0)
