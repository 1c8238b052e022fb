"""What Dagster shows of the data plane."""

import subprocess
import sys
from itertools import pairwise

import dagster as dg

from planes.data.definitions import definitions

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
    checks = [graph.get(key) for key in graph.asset_check_keys]
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
