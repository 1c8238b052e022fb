"""Which reranker runs: the setting says it."""

import functools
from collections.abc import Callable
from uuid import UUID

from planes.serving.generation.choose import RefusedConfiguration
from planes.serving.retrieval.cross_encoder import (
    CrossEncoderReranker,
    is_installed,
    load_cross_encoder,
)
from planes.serving.retrieval.hybrid import Embed
from planes.serving.retrieval.sentence_evidence import SentenceEvidence
from planes.serving.settings import ServingSettings
from planes.shared.index_ports import Reranker

_SENTENCES, _NONE = "sentences", "none"


def check_reranker(settings: ServingSettings) -> None:
    """Refuse what cannot run here; loads nothing.

    Raises:
        RefusedConfiguration: A model is named and its extra is not installed.
    """
    if settings.reranker in {_SENTENCES, _NONE} or is_installed():
        return
    raise RefusedConfiguration(
        f"SERVING_RERANKER={settings.reranker} names a cross-encoder, which needs the extra "
        "`qwen`: run `make up EXTRAS=qwen`, or set SERVING_RERANKER to `sentences` or `none`."
    )


def build_reranker(
    settings: ServingSettings, sentences_of: Callable[[UUID, str], Embed]
) -> Callable[[str], Reranker | None]:
    """Return the reranker of one replica by the embedding model of the index that is searched.

    A cross-encoder reads texts, and is one for all; None where the arms' order stands.

    Args:
        settings: From the environment.
        sentences_of: Returns what embeds a tenant's sentences by a model.

    Raises:
        RefusedConfiguration: A model is named whose extra or weights are absent.
    """
    check_reranker(settings)
    if settings.reranker == _NONE:
        return lambda _: None
    if settings.reranker == _SENTENCES:
        return functools.cache(
            lambda model: SentenceEvidence(lambda tenant_id: sentences_of(tenant_id, model))
        )
    try:
        score = load_cross_encoder(settings.reranker)
    except OSError as error:
        raise RefusedConfiguration(
            f"SERVING_RERANKER={settings.reranker}: there are no such weights. Set it to the "
            "folder of a cross-encoder, or to its name where the model hub can be reached."
        ) from error
    reranker = CrossEncoderReranker(score)
    return lambda _: reranker
