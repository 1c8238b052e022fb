"""How well answers without a language model cite, and how well they decline: a curve.

    python -m tests.evaluation.answers path/to/eval [PLOT.svg]

The folder holds `answer_checks.py` and `retrieval/squad2_a` with the paragraphs of articles and
questions about them (SQuAD 2.0, Rajpurkar et al. 2018). The articles are chunked, embedded and
published as the product does it, each question goes through the product's agent, once over all
articles and once without the one that it is about. Thresholds were tuned on every second article;
the figures are told for those, and for the others apart.
"""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

from planes.serving.agent.graph import Agent, build_graph
from planes.serving.agent.state import AgentTools, Answer
from planes.serving.caches.sentences import SentenceVectors
from planes.serving.generation.evidence import MIN_SUPPORT, Quote
from planes.serving.generation.extractive import ExtractiveGenerator
from planes.serving.generation.tokens import TokenCounter
from planes.serving.retrieval.hybrid import Embed, HybridRetriever
from planes.serving.retrieval.registry import DocumentRegistry
from planes.serving.retrieval.sentence_evidence import SentenceEvidence
from planes.shared.domain import FinishReason, Passage, SearchScope
from planes.shared.embedding import MiniLMEmbedder, load_tokenizer
from planes.shared.embedding_models import MODEL_NAME
from planes.shared.ports import Prompt
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from planes.shared.wire import AnswerRequest, Scope
from tests.evaluation.answers_plot import plot
from tests.evaluation.articles import Article, publish, read_articles
from tests.evaluation.own_database import own_database
from tests.fakes_serving import embedding_in_process

THRESHOLDS = (0.0, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1, 1.2, 1.3)
_EVERYWHERE, _ELSEWHERE = "everywhere", "elsewhere"


class RecordingGenerator(ExtractiveGenerator):
    """Answers whatever has a sentence, and remembers how well the best one was supported."""

    support = 0.0

    async def _choose(self, prompt: Prompt, passages: Sequence[Passage]) -> list[Quote]:
        quotes = await super()._choose(prompt, passages)
        self.support = quotes[0].best.support if quotes else 0.0
        return quotes


def main(folder: Path, drawing: Path | None) -> None:
    """Ask all questions and print the curves."""
    checks, questions = _checks(folder), folder / "retrieval" / "squad2_a" / "queries.jsonl"
    if checks is None or not questions.is_file():
        sys.exit(f"There is no answer_checks.py with retrieval/squad2_a in {folder}.")
    asked = [json.loads(line) for line in questions.read_text("utf-8").splitlines() if line]
    corpus = questions.with_name("corpus.jsonl")
    articles = read_articles(corpus)
    with own_database() as urls:
        answers = asyncio.run(_ask(urls, articles, asked))
    paragraphs = {row["_id"]: row for row in map(json.loads, corpus.open(encoding="utf-8"))}
    tuned = set(sorted(articles)[::2])
    curves = {}
    for name, articles_of in (("tuned on", tuned), ("held out", set(articles) - tuned)):
        some = [query for query in asked if query["metadata"]["article"] in articles_of]
        print(f"\n{name}: {len(some)} questions about {len(articles_of)} articles")
        curves[name] = [_point(checks, some, answers, paragraphs, at) for at in THRESHOLDS]
    if drawing is not None:
        drawing.write_text(plot(curves["held out"]), "utf-8")


def _checks(folder: Path) -> ModuleType | None:
    path = folder / "answer_checks.py"
    specification = importlib.util.spec_from_file_location("answer_checks", path)
    if not path.is_file() or specification is None or specification.loader is None:
        return None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


async def _ask(
    urls: dict[str, str], articles: dict[str, Article], asked: Sequence[dict[str, Any]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what was answered, by place of search and question."""
    embedder = MiniLMEmbedder()
    embed = embedding_in_process(embedder)
    kept = SentenceVectors(lambda _: embed, max_bytes=64 << 20)

    def sentences(tenant_id: UUID) -> Embed:
        return kept.of(tenant_id, MODEL_NAME)

    tenant, documents = await publish(urls, embedder, articles)
    names = {document: articles[name] for name, document in documents.items()}
    database = Database(urls["serving"], service="evaluation")
    await database.open()
    retriever = HybridRetriever(
        PostgresChunks(database), DocumentRegistry(database), embed, SentenceEvidence(sentences)
    )
    tokens = TokenCounter(load_tokenizer())
    generator = RecordingGenerator(lambda _: embed, sentences, tokens, min_support=0.0)
    agent = Agent(build_graph(), AgentTools(retriever, generator))
    found = {}
    for query in asked:
        others = tuple(d for n, d in documents.items() if n != query["metadata"]["article"])
        for where, ids in ((_EVERYWHERE, None), (_ELSEWHERE, others)):
            generator.support = 0.0
            answer = await _answer(agent, query["text"], SearchScope(tenant, 1, (), ids))
            found[where, query["_id"]] = _prediction(query, answer, names, generator.support)
    await database.close()
    return found


async def _answer(agent: Agent, question: str, scope: SearchScope) -> Answer:
    request = AnswerRequest(
        answer_id=uuid4(),
        message_id=uuid4(),
        conversation_id=uuid4(),
        message=question,
        scope=Scope(generation=scope.generation),
        max_prompt_tokens=4096,
        max_tokens=512,
    )
    told = [each async for each in agent.answer(request, scope)]
    assert isinstance(told[-1], Answer)
    return told[-1]


def _prediction(
    query: dict[str, Any], answer: Answer, names: dict[UUID, Article], support: float
) -> dict[str, Any]:
    """Return a line as `answer_checks.py` reads it, and how well the answer is supported."""
    return {
        "_id": query["_id"],
        "answered": answer.finish_reason is not FinishReason.DECLINED,
        "answer": answer.content,
        "support": support,
        "unsupported": len(answer.unsupported),
        "citations": [
            {"doc_id": names[one.document_id].paragraph_at(one.start), "text": one.quote}
            for one in answer.citations
        ],
    }


def _point(
    checks: ModuleType,
    asked: Sequence[dict[str, Any]],
    answers: dict[tuple[str, str], dict[str, Any]],
    paragraphs: dict[str, Any],
    threshold: float,
) -> dict[str, float]:
    """Return and print what the checks say where less support than `threshold` is declined."""
    given = {
        key: prediction
        | {"answered": prediction["answered"] and prediction["support"] >= threshold}
        for key, prediction in answers.items()
    }
    told = [given[_EVERYWHERE, query["_id"]] for query in asked]
    figures = checks.evaluate(asked, told, paragraphs)
    answerable = [query for query in asked if not query["metadata"].get("is_impossible")]
    off_corpus = [given[_ELSEWHERE, query["_id"]]["answered"] for query in answerable]
    answered = [one for one in told if one["answered"]]
    point = {name: figure for name, (figure, _) in figures.items()}
    point |= {
        "threshold": threshold,
        "off_corpus_declined": 1 - sum(off_corpus) / len(off_corpus),
        "citations": sum(len(one["citations"]) for one in answered) / max(1, len(answered)),
        "quoted_words": sum(len(c["text"].split()) for one in answered for c in one["citations"])
        / max(1, len(answered)),
        "unsupported": sum(one["unsupported"] for one in answered),
    }
    is_chosen = threshold == MIN_SUPPORT
    print(" ".join(f"{name} {figure:.3f}" for name, figure in point.items()), "*" * is_chosen)
    return point


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
