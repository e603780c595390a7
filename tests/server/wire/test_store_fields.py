"""Every field that the client sends to files and vector stores has a class, and every class is kept."""

import typing
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import (
    file_create_params,
    file_list_params,
    static_file_chunking_strategy_param,
    vector_store_create_params,
    vector_store_list_params,
    vector_store_search_params,
    vector_store_update_params,
)
from openai.types.responses import input_item_list_params, response_retrieve_params
from openai.types.vector_stores import (
    file_batch_create_params,
    file_batch_list_files_params,
    file_update_params,
)
from openai.types.vector_stores import (
    file_create_params as attach_params,
)
from openai.types.vector_stores import (
    file_list_params as store_file_list_params,
)

from indexer.attachments import Wish
from indexer.chunking import Chunking
from server.errors import InvalidFilter, InvalidValue, MissingParameter, UnsupportedParameter
from server.openapi import QUERIES
from server.wire import fields, files, stores
from server.wire.fields import Class, class_of
from server.wire.reading import Wire


class Route(typing.NamedTuple):
    table: Mapping[str, Class]
    model: type[Wire]
    read: Callable[[bytes], Any]
    smallest: dict[str, Any]
    client: tuple[tuple[str, type], ...]  # path prefix, request type of the client


def _form(body: bytes) -> files.FileForm:
    flat: dict[str, str] = {}
    for name, value in orjson.loads(body).items():
        if isinstance(value, dict):
            flat |= {f"{name}[{key}]": str(inner) for key, inner in value.items()}
        elif value is not None:  # a form has no null
            flat[name] = str(value)
    return files.read_form(flat)


ROUTES = {
    "files": Route(
        fields.FILES,
        files.FileForm,
        _form,
        {"purpose": "assistants"},
        (("", file_create_params.FileCreateParams), ("expires_after.", file_create_params.ExpiresAfter)),
    ),
    "stores": Route(
        fields.STORES,
        stores.StoreRequest,
        stores.read_store,
        {},
        (
            ("", vector_store_create_params.VectorStoreCreateParams),
            ("expires_after.", vector_store_create_params.ExpiresAfter),
        ),
    ),
    "changes of stores": Route(
        fields.STORE_CHANGES,
        stores.StoreChange,
        lambda body: stores.read_store_change(body) or {},
        {},
        (
            ("", vector_store_update_params.VectorStoreUpdateParams),
            ("expires_after.", vector_store_update_params.ExpiresAfter),
        ),
    ),
    "files of stores": Route(
        fields.STORE_FILES,
        stores.StoreFileRequest,
        stores.read_store_file,
        {"file_id": "file-1"},
        (("", attach_params.FileCreateParams),),
    ),
    "changes of files": Route(
        fields.STORE_FILE_CHANGES,
        stores.StoreFileChange,
        stores.read_store_file_change,
        {"attributes": {"a": 1}},
        (("", file_update_params.FileUpdateParams),),
    ),
    "file batches": Route(
        fields.FILE_BATCHES,
        stores.FileBatchRequest,
        stores.read_file_batch,
        {"file_ids": ["file-1"]},
        (
            ("", file_batch_create_params.FileBatchCreateParams),
            ("files[].", file_batch_create_params.File),
        ),
    ),
    "search": Route(
        fields.STORE_SEARCH,
        stores.StoreSearchRequest,
        stores.read_store_search,
        {"query": "tea"},
        (
            ("", vector_store_search_params.VectorStoreSearchParams),
            ("ranking_options.", vector_store_search_params.RankingOptions),
        ),
    ),
}
IN_PATH = {"vector_store_id", "file_id"}  # of the client's types that say where a thing is
each_route = pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())


@each_route
def test_every_field_of_the_client_has_a_class(route: Route):
    unclassed = {
        prefix + name
        for prefix, request in route.client
        for name in typing.get_type_hints(request)
        if class_of(route.table, prefix + name) is None and name not in IN_PATH
    }
    assert not unclassed, "class these in server/wire/fields.py"


@each_route
def test_the_table_and_the_model_agree_on_what_is_accepted(route: Route):
    accepted = {name for name, kind in route.table.items() if kind != "R" and "." not in name}
    assert accepted - {"file"} == set(route.model.model_fields)  # the file of the form is no field


@each_route
def test_a_field_that_nobody_knows_is_refused_by_name(route: Route):
    with pytest.raises(UnsupportedParameter) as refusal:
        route.read(orjson.dumps({**route.smallest, "colour": "red"}))
    assert refusal.value.param == "colour"


@pytest.mark.parametrize("name", [name for name in ROUTES if not name.startswith("changes")])
@given(data=st.data())
def test_null_means_absent(name: str, data: st.DataObject):
    route = ROUTES[name]
    optional = [one for one in route.table if one not in route.smallest and "." not in one and one != "file"]
    nulls = dict.fromkeys(data.draw(st.sets(st.sampled_from(optional))))
    assert route.read(orjson.dumps({**nulls, **route.smallest})) == route.read(orjson.dumps(route.smallest))


def test_in_changes_null_clears():
    cleared = stores.read_store_change(b'{"expires_after": null, "metadata": null, "name": null}')
    assert cleared == {"expires_days": None, "metadata": {}, "label": None}
    assert stores.read_store_change(b"{}") == {}
    assert stores.read_store_file_change(b'{"attributes": null}').attributes == {}
    with pytest.raises(MissingParameter):
        stores.read_store_file_change(b"{}")


def test_chunking_strategies_are_the_clients():
    hints = typing.get_type_hints(static_file_chunking_strategy_param.StaticFileChunkingStrategyParam)
    assert set(hints) == set(stores.StaticChunking.model_fields)
    static = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}
    body = {"file_id": "f", "chunking_strategy": {"type": "static", "static": static}}
    assert stores.read_store_file(orjson.dumps(body)).wish() == Wish("f", None, Chunking("static", 200, 50))


BAD: list[tuple[Callable[[bytes], Any], dict[str, Any], type[Exception], str]] = [
    (stores.read_store, {"chunking_strategy": {"type": "auto"}}, InvalidValue, "chunking_strategy"),
    (stores.read_store, {"metadata": {"a": 1}}, InvalidValue, "metadata.a"),
    (stores.read_store, {"metadata": {str(n): "" for n in range(17)}}, InvalidValue, "metadata"),
    (
        stores.read_store,
        {"expires_after": {"anchor": "last_active_at", "days": 366}},
        InvalidValue,
        "expires_after.days",
    ),
    (
        stores.read_store_file,
        {"file_id": "f", "attributes": {"a": "x" * 513}},
        InvalidValue,
        "attributes.a",
    ),
    (stores.read_store_file, {"file_id": "f", "attributes": {"a": []}}, InvalidValue, "attributes.a"),
    (stores.read_store_file, {"file_id": "f", "attributes": {"a": 2**60}}, InvalidValue, "attributes.a"),
    (
        stores.read_store_file,
        {"file_id": "f", "chunking_strategy": {"type": "static"}},
        InvalidValue,
        "chunking_strategy.static",
    ),
    (
        stores.read_store_file,
        {
            "file_id": "f",
            "chunking_strategy": {
                "type": "static",
                "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51},
            },
        },
        InvalidValue,
        "chunking_strategy.static.chunk_overlap_tokens",
    ),
    (stores.read_file_batch, {}, InvalidValue, "file_ids"),
    (
        stores.read_file_batch,
        {"files": [{"file_id": "f"}], "attributes": {"a": 1}},
        InvalidValue,
        "attributes",
    ),
    (stores.read_store_search, {"query": ["a"] * 17}, InvalidValue, "query"),
    (stores.read_store_search, {"query": "a", "rewrite_query": True}, UnsupportedParameter, "rewrite_query"),
    (
        stores.read_store_search,
        {"query": "a", "filters": {"type": "and", "filters": [{"type": "eq", "key": "k"}]}},
        InvalidFilter,
        "filters.filters[0].value",
    ),
]


@pytest.mark.parametrize(("read", "body", "kind", "param"), BAD)
def test_what_is_wrong_is_named_by_its_place(read, body, kind, param):
    with pytest.raises(kind) as refusal:
        read(orjson.dumps(body))
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("path", "request_type"),
    [
        ("/v1/files", file_list_params.FileListParams),
        ("/v1/vector_stores", vector_store_list_params.VectorStoreListParams),
        ("/v1/vector_stores/{store_id}/files", store_file_list_params.FileListParams),
        (
            "/v1/vector_stores/{store_id}/file_batches/{batch_id}/files",
            file_batch_list_files_params.FileBatchListFilesParams,
        ),
        ("/v1/responses/{response_id}", response_retrieve_params.ResponseRetrieveParamsNonStreaming),
        ("/v1/responses/{response_id}/input_items", input_item_list_params.InputItemListParams),
    ],
)
def test_every_query_value_of_the_client_is_known(path: str, request_type: type):
    refused = {"stream", "starting_after"}  # of a stored response, which is read whole: test_responses_route
    harmless = {"include_obfuscation"}  # of a stream that is refused
    names = set(typing.get_type_hints(request_type)) - IN_PATH - {"batch_id"} - refused - harmless
    assert names
    assert names <= set(QUERIES[path])
