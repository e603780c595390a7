"""Erasure, judged without our own check: no file of the data folder has a byte of what was erased."""

import base64
import json
from pathlib import Path
from urllib.parse import quote

import openai
from click.testing import CliRunner

from server.cli import main
from tests.server.test_serving import serving

CANARY = "Zanzibar-7f3a99c1 ürümqi"
WORDS = ("zanzibar", "7f3a99c1", "ürümqi")  # as the keyword index has them
FORMS = {
    "UTF-8": CANARY.encode(),
    "UTF-16": CANARY.encode("utf-16-le"),
    "JSON": json.dumps(CANARY)[1:-1].encode(),
    "JSON in JSON": json.dumps(json.dumps(CANARY)[1:-1])[1:-1].encode(),
    "percent": quote(CANARY).encode(),
    "base64": base64.b64encode(CANARY.encode())[4:-4],
    **{f"the word {word}": word.encode() for word in WORDS},
}


def found(folder: Path) -> dict[str, set[str]]:
    """Form → files that have it, upper and lower case alike."""
    places: dict[str, set[str]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            held = path.read_bytes().lower()
            for form, needle in FORMS.items():
                if needle.lower() in held:
                    places.setdefault(form, set()).add(str(path.relative_to(folder)))
    return places


def test_no_file_of_the_data_folder_has_a_byte_of_it(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    told = {"FEWSHOT_ENGINE_ECHO_REPLY": f"The word is {CANARY}. [1]"}
    with serving(data, **told) as (_, url), openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client:
        store = client.vector_stores.create(name="kept").id
        texts = [f"# {CANARY}\n\nThe word is {CANARY}.", "Nothing of it is here."]
        files = [
            client.vector_stores.files.upload_and_poll(
                vector_store_id=store, file=(f"{number}.md", text.encode())
            ).id
            for number, text in enumerate(texts)
        ]
        about = {"fewshot": {"vector_store_ids": [store]}}
        ask = [{"role": "user", "content": "What is the word?"}]
        client.chat.completions.create(model="echo", messages=ask, extra_body=about)
        client.responses.create(model="echo", input="What is the word?", extra_body=about)
        for _ in client.chat.completions.create(model="echo", messages=ask, stream=True, extra_body=about):
            pass
        client.files.delete(files[0])
    before = found(data)
    assert {"catalogue.db", "journal.db"} <= {path.removesuffix("-wal") for path in before["UTF-8"]}
    erased = CliRunner().invoke(main, ["erase"], env={"FEWSHOT_DATA_DIR": str(data)})
    assert erased.exit_code == 0, erased.output
    assert found(data) == {}
    with serving(data) as (_, url), openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client:
        assert [hit.file_id for hit in client.vector_stores.search(store, query="the word")] == [files[1]]
    assert found(data) == {}
