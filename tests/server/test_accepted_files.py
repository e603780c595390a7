"""What a server accepted outlives it: killed at any moment, its next start reads what was attached."""

import time

import openai
import pytest

from indexer.catalogue import Catalogue
from indexer.verification import findings
from tests.server.test_serving import serving

MANY = 40


@pytest.mark.parametrize("seconds", [0.0, 0.6, 2.0])
def test_a_killed_server_loses_no_file_it_accepted(tmp_path, seconds):
    with serving(tmp_path) as (_, url), openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client:
        store = client.vector_stores.create(name="kept").id
        ids = [
            client.files.create(
                file=(f"{n}.txt", f"Page {n} tells of zorvane{n}.".encode()), purpose="assistants"
            ).id
            for n in range(MANY)
        ]
        batch = client.vector_stores.file_batches.create(store, file_ids=ids).id
        time.sleep(seconds)  # then SIGKILL
    with serving(tmp_path) as (_, url), openai.OpenAI(base_url=f"{url}/v1", api_key="x") as client:
        done = client.vector_stores.file_batches.poll(batch, vector_store_id=store)
        assert done.file_counts.completed == done.file_counts.total == MANY
        for number in (0, MANY // 2, MANY - 1):
            hits = client.vector_stores.search(
                store, query=f"zorvane{number}", extra_body={"search_mode": "keyword"}
            )
            assert [hit.file_id for hit in hits] == [ids[number]]
        client.files.delete(ids[0])
    catalogue = Catalogue(tmp_path)
    assert list(findings(catalogue, catalogue.store(store))) == []
    catalogue.close()
