"""The code location `polyplane`: assets, checks, job and sensor of the data plane."""

import dagster as dg

from planes.data.defs import assets, checks
from planes.data.defs.jobs import ingestion
from planes.data.defs.resources import ingestion_run
from planes.data.defs.sensors import waiting_documents

definitions = dg.Definitions(
    assets=dg.load_assets_from_modules([assets]),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
    jobs=[ingestion],
    sensors=[waiting_documents],
    resources={"ingestion_run": ingestion_run},
)
