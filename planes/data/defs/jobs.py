"""The one job of the ingestion: everything, in one process."""

import dagster as dg

ingestion = dg.define_asset_job(
    "ingestion",
    selection=dg.AssetSelection.groups("ingestion", "removal"),
    executor_def=dg.in_process_executor,
    description="Takes a batch of waiting documents from received to searchable, and removes the "
    "deleted. Started by the gateway, or by the sensor `waiting_documents`.",
)
