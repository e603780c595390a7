"""The list that clients and benchmark tools take names from."""

import orjson

from server.profile import ModelProfile
from server.wire.models import embedding_object, model_list, model_object
from tests.server.samples import client_hearing

PROFILE = ModelProfile(
    name="smol",
    sha256="a",
    context_tokens=2048,
    vocabulary=10,
    engine="echo",
    engine_version="1",
    dtype="none",
    created=7,
)


def test_the_base_model_comes_first_with_what_vllm_tools_read():
    page = model_list([model_object(PROFILE), embedding_object("minilm", created=7)])
    models = client_hearing(orjson.dumps(page)).models.list().data
    assert [model.id for model in models] == ["smol", "minilm"]
    shown = models[0].to_dict()
    assert (shown["root"], shown["parent"], shown["max_model_len"]) == ("smol", None, 2048)
    assert [model.to_dict()["fewshot"]["kind"] for model in models] == ["base", "embedding"]
