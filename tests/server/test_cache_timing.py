"""S5: how soon an answer begins tells nobody what another tenant asked; of one's own, it does (vLLM)."""

import random

import pytest

from indexer.database import open_database
from server.keys import Keys, read_secret
from tests.server.test_serving import serving
from tests.server.test_timing import Caller, auc

PAIRS = 80
SCATTER = 0.12  # 2.6 standard errors of the AUC of 80 pairs; the bar is 0.05 beyond it


def prompt(chance):
    """Some 500 tokens that begin unlike all others."""
    return " ".join(chance.choice(("duck", "heron", "otter", "newt", "pond", "reed")) for _ in range(400))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_another_tenants_prompts_are_not_answered_sooner_and_ones_own_are(tmp_path, record_property):
    pytest.importorskip("vllm")
    known = Keys(open_database(tmp_path / "journal.db"), pepper=read_secret(tmp_path))
    keys = [known.create(tenant=name, scopes=["infer"]) for name in ("a", "b")]
    more = {"FEWSHOT_ENGINE_KIND": "vllm", "FEWSHOT_AUTH_ENABLED": "true"}
    with serving(tmp_path, **more) as (_, url):
        owner, other = (Caller(url, key) for key in keys)
        model = "smollm2-135m-instruct"

        def ask(caller, text):
            body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0}
            took, status, said = caller.ask("POST", "/completions", body)
            assert status == 200, said
            return took

        chance = random.Random(5)
        for _ in range(5):
            ask(owner, prompt(chance))
        seconds = {name: [] for name in ("first", "again", "anothers", "nobodys")}
        for _ in range(PAIRS):
            asked, fresh = prompt(chance), prompt(chance)
            seconds["first"].append(ask(owner, asked))
            seconds["again"].append(ask(owner, asked))
            for name, text in chance.sample([("anothers", asked), ("nobodys", fresh)], 2):
                seconds[name].append(ask(other, text))
        for caller in (owner, other):
            caller.close()
    told = {
        "of one's own": float(auc(seconds["first"], seconds["again"])),
        "of another's": float(auc(seconds["nobodys"], seconds["anothers"])),
    }
    record_property("auc", told)
    assert told["of one's own"] > 0.9, "there is no cache to tell of"
    assert abs(told["of another's"] - 0.5) <= 0.05 + SCATTER, told
