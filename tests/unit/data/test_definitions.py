"""What Dagster shows of the data plane."""

import subprocess
import sys
from itertools import pairwise

import dagster as dg

from planes.data.definitions import definitions
from planes.data.defs import quality, schedules, sources
from planes.data.settings import ScheduleSettings

STEPS = [
    "source_documents",
    "parsed_documents",
    "document_chunks",
    "embedded_chunks",
    "indexed_chunks",
    "published_documents",
]


def test_the_definitions_load() -> None:
    dg.Definitions.validate_loadable(definitions)


def test_assets_form_one_line_from_upload_to_publication() -> None:
    graph = definitions.resolve_asset_graph()
    for before, after in pairwise(STEPS):
        assert graph.get(dg.AssetKey(after)).parent_keys == {dg.AssetKey(before)}
    for key in graph.get_all_asset_keys():
        assert graph.get(key).description
        assert graph.get(key).kinds


def test_every_check_blocks_the_publication() -> None:
    graph = definitions.resolve_asset_graph()
    checks = [
        graph.get(key)
        for key in graph.asset_check_keys
        if key.asset_key != quality.search_index.key
    ]
    assert {check.key.name for check in checks} == {
        "no_blank_chunk",
        "offsets_give_the_text",
        "vectors_have_length_one",
        "registry_and_index_agree",
        "ids_are_unique",
    }
    assert all(check.blocking for check in checks)


def test_the_job_takes_everything() -> None:
    job = definitions.resolve_job_def("ingestion")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == {
        *STEPS,
        "removed_documents",
    }


def test_the_code_location_loads_no_model_and_no_parser() -> None:
    code = (
        "import sys, planes.data.definitions\n"
        "heavy = {'torch', 'openvino', 'numpy', 'semchunk', 'pypdfium2', 'docx', 'py3langid'}\n"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_generations_are_built_by_a_job_of_their_own_behind_the_ingestion() -> None:
    job = definitions.resolve_job_def("reembedding")
    keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert keys == {"generation_index"}
    assert int(job.tags["dagster/priority"]) < 0


def test_lineage_leads_from_the_watched_files_to_the_index() -> None:
    graph = definitions.resolve_asset_graph()
    ancestors = graph.get_ancestor_asset_keys(quality.search_index.key)
    assert {sources.source_files.key, *map(dg.AssetKey, STEPS)} <= ancestors


def test_checks_of_the_whole_index_are_a_job_of_their_own() -> None:
    job = definitions.resolve_job_def("quality")
    assert not job.asset_layer.executable_asset_keys
    names = {key.name for key in job.asset_layer.asset_graph.asset_check_keys}
    assert {"counts_agree", "no_stray_files", "language_drift"} <= names
    assert int(job.tags["dagster/priority"]) < 0


def test_nothing_runs_by_itself_unless_its_setting_is_on() -> None:
    off = schedules.schedules(ScheduleSettings())
    assert {one.default_status for one in off} == {dg.DefaultScheduleStatus.STOPPED}
    look = sources.watched_sources(ScheduleSettings())
    assert look.default_status == dg.DefaultSensorStatus.STOPPED
    on = ScheduleSettings(watch_sources=True, daily_ingestion=True, timezone="Europe/Berlin")
    assert sources.watched_sources(on).default_status == dg.DefaultSensorStatus.RUNNING
    daily = {one.name: one for one in schedules.schedules(on)}["daily_ingestion"]
    assert daily.default_status == dg.DefaultScheduleStatus.RUNNING
    assert (daily.cron_schedule, daily.execution_timezone) == ("0 2 * * *", "Europe/Berlin")
