"""Intermediates and checks."""

from pathlib import Path

import numpy as np
import pytest

from planes.data.pipeline.batch import BatchFiles
from planes.data.pipeline.chunk import TextChunk
from planes.data.pipeline.extracted import ExtractedText, HeadingSpan, PageSpan
from planes.data.pipeline.verify import check_chunks, check_vectors
from planes.data.pipeline.work import Work
from planes.shared.domain import new_id
from planes.shared.stores.objects import FolderObjects


def work(**changes: object) -> Work:
    ids = {name: new_id() for name in ("version_id", "tenant_id", "document_id")}
    facts = {"media_type": "text/plain", "size_bytes": 10, "sha256": "00", "generation": 1}
    return Work(**{**ids, **facts, **changes})


@pytest.fixture
def files(tmp_path: Path) -> BatchFiles:
    return BatchFiles(FolderObjects(tmp_path), "run")


async def test_intermediates_come_back_as_they_were(files: BatchFiles) -> None:
    one = work(language="en", chunk_count=2)
    extracted = ExtractedText("a\u2028b 🌊", (PageSpan(1, 0, 5),), (HeadingSpan(2, 0, 1),))
    chunks = [TextChunk(0, 1, 1, "", "a"), TextChunk(2, 5, None, "h", "b\u2028🌊")]
    vectors = np.eye(2, 384, dtype=np.float32)
    await files.put_works("parsed", [one, one])
    await files.put_extracted(one, extracted)
    await files.put_chunks(3, {one.version_id: chunks})
    await files.put_vectors(3, {one.version_id: vectors})
    await files.put_vectors(4, {})
    assert await files.works("parsed") == [one, one]
    assert await files.extracted(one) == extracted
    assert await files.chunks(3) == {one.version_id: chunks}
    assert ((await files.vectors(3))[one.version_id] == vectors).all()
    assert await files.vectors(4) == {}


async def test_removing_a_batch_leaves_the_texts(files: BatchFiles) -> None:
    one = work()
    await files.put_extracted(one, ExtractedText("words"))
    await files.remove()
    assert await files.text(one) == "words"


async def test_a_step_that_did_not_run_is_named(files: BatchFiles) -> None:
    with pytest.raises(FileNotFoundError, match="parsed"):
        await files.works("parsed")


async def test_chunk_checks_name_the_documents_at_fault(files: BatchFiles) -> None:
    good, blank, shifted, empty = (work() for _ in range(4))
    for one in (good, blank, shifted, empty):
        await files.put_extracted(one, ExtractedText("some words"))
    chunks = {
        good.version_id: [TextChunk(0, 4, None, "", "some")],
        blank.version_id: [TextChunk(4, 5, None, "", " ")],
        shifted.version_id: [TextChunk(1, 5, None, "", "some")],
        empty.version_id: [],
    }
    await files.put_chunks(0, chunks)
    findings = await check_chunks(files, [good, blank, shifted, empty])
    assert findings == {"no_blank_chunk": [blank, empty], "offsets_give_the_text": [shifted]}


async def test_vector_checks_name_the_documents_at_fault(files: BatchFiles) -> None:
    good, long, broken, missing = (work(chunk_count=1) for _ in range(4))
    unit = np.eye(1, 384, dtype=np.float32)
    vectors = {
        good.version_id: unit,
        long.version_id: unit * 1.01,
        broken.version_id: unit * np.nan,
        missing.version_id: unit[:0],
    }
    await files.put_vectors(0, vectors)
    findings = await check_vectors(files, [good, long, broken, missing])
    assert findings == {"vectors_have_length_one": [long, broken, missing]}
