"""What search, citations and lists of documents may show at all."""

LIVING_VERSIONS = (
    "document_versions v JOIN documents d ON d.id = v.document_id "
    "AND d.deleted_at IS NULL AND v.visibility = 'live'"
)
"""For a FROM: the published versions `v` of documents `d` that are not deleted."""
