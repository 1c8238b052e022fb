from planes.serving.generation.reading import PassageReader
from planes.serving.generation.tokens import TokenCounter
from planes.shared.domain import new_id
from planes.shared.embedding import load_tokenizer
from tests.fakes_serving import chunk

TEXT = "# Harbour\n\nLeith is a port town. Its cranes were removed after the war.\n\nSee also:"


class Counter(TokenCounter):
    """Remembers what it counted."""

    def __init__(self) -> None:
        super().__init__(load_tokenizer())
        self.counted: list[str] = []

    def count(self, text: str) -> int:
        self.counted.append(text)
        return super().count(text)


def test_a_reading_holds_the_sentences_without_headings_and_labels() -> None:
    reading = PassageReader(Counter()).read(chunk(TEXT))
    spans = [TEXT[statement.start : statement.end] for statement in reading.statements]
    assert spans == ["Leith is a port town.", "Its cranes were removed after the war."]
    assert reading.statements[1].terms == {"crane", "remov", "war"}


def test_a_tenants_passage_is_read_once() -> None:
    counter, tenant = Counter(), new_id()
    reader = PassageReader(counter)
    first = reader.read(chunk(TEXT, tenant_id=tenant))
    assert reader.read(chunk(TEXT, tenant_id=tenant)) == first
    assert counter.counted == [TEXT]


def test_tenants_share_no_readings() -> None:
    counter = Counter()
    reader = PassageReader(counter)
    for _ in range(2):  # `chunk` makes a tenant each time
        reader.read(chunk(TEXT))
    assert counter.counted == [TEXT, TEXT]


def test_what_was_not_asked_for_lately_is_read_again() -> None:
    counter, tenant = Counter(), new_id()
    reader = PassageReader(counter, max_bytes=5000)
    for text in (TEXT, "A heron eats fish. " * 10, TEXT):
        reader.read(chunk(text, tenant_id=tenant))
    assert len(counter.counted) == 3
