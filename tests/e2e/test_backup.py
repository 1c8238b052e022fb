"""Backup of the running platform, restore into an empty home: the same citations.

That of given stores is restored into embedded ones.
"""

from pathlib import Path
from typing import Any

import pytest

from services.cli.demo_files import QUESTIONS, files
from tests.e2e.conftest import EMBEDDED, EXACT, RunningPlatform, new_platform
from tests.e2e.person import Person

pytestmark = [pytest.mark.e2e, pytest.mark.platforms(EMBEDDED, EXACT)]

_THE_SAME = ("content", "citations", "finish_reason", "grounded")


def _golden(person: Person) -> list[dict[str, Any]]:
    """Ask the three questions of the demonstration, each in a conversation of its own."""
    told = []
    for question in QUESTIONS:
        answer = person.ask(question.text)
        assert answer["citations"], question.text
        person.check(answer["citations"])
        told.append({**answer["message"], **answer})
    return [{name: answer[name] for name in _THE_SAME} for answer in told]


def _cited(answers: list[dict[str, Any]], *, with_scores: bool) -> list[dict[str, Any]]:
    """Return answers with their citations; stores differ in the last digits of scores."""
    if with_scores:
        return answers
    places = [[{**each, "score": None} for each in answer["citations"]] for answer in answers]
    return [{**answer, "citations": cited} for answer, cited in zip(answers, places, strict=True)]


def test_three_golden_questions_have_the_same_citations_after_a_restore(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    person = Person(platform.base_url)
    for name, content in list(files())[-3:]:  # those that the questions are about
        document_id, _ = person.upload(name, content)
        assert person.finished(document_id)["status"] == "ready"
    before = _golden(person)
    conversations = person.get("/conversations")["items"]
    usage = person.get("/billing/usage")
    person.http.close()
    platform.command("backup", str(tmp_path / "backups"))
    (backup,) = (path for path in (tmp_path / "backups").iterdir() if path.is_dir())

    restored = new_platform(tmp_path / "restored")
    try:
        restored.command("restore", str(backup))
        restored.command("up")
        person.sign_in(restored.base_url)
        assert person.get("/billing/usage")["totals"] == usage["totals"]
        assert person.get("/conversations")["items"] == conversations
        for each in conversations:
            messages = person.get(f"/conversations/{each['id']}/messages")["items"]
            assert [message["role"] for message in messages] == ["user", "assistant"]
            person.check(messages[1]["citations"])
        is_same_store = platform.stores is None
        after = _cited(_golden(person), with_scores=is_same_store)
        assert after == _cited(before, with_scores=is_same_store)
    finally:
        person.http.close()
        restored.command("reset", "--yes")
