"""POST /v1/classify over real sockets: scoring, calibration, refusal, the journal's rows, feedback."""

import asyncio
import json
import math
from collections import Counter
from dataclasses import replace

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts.calibration import calibrated, mean_probabilities, probabilities
from prompts.calibrator import Scored, fit, read_all, write
from prompts.records import Label, LabelSet
from prompts.templates import Library
from server.echo_decoder import EchoDecoder, EchoTokenizer
from server.label_scoring import LabelTokens, label_tokens, score_labels
from server.settings import load_settings
from server.wire.classify import ClassifyRequest
from server.wire.fields import CLASSIFY

KINDS = Library.load().get("question-type")
IDS = [label.id for label in KINDS.labels.labels]
TEXTS = [label.text for label in KINDS.labels.labels]


class Spelling(EchoDecoder):
    """Next characters are as likely as they are frequent behind the last `Question:`, plus one each.

    A model that likes `N` beyond reason, so that there is something to calibrate.
    """

    async def first_tokens(self, prompt, candidates, *, cache_salt="", adapter=None):
        asked = self.tokenizer.decode(prompt).rpartition("Question:")[2].partition("<|im_end|>")[0]
        seen = Counter(asked.upper())
        weights = {ord(char): 1 + seen[char.upper()] for char in "ADEHLNabcdefghijklmnopqrstuvwxyz"}
        weights[ord("N")] += 5
        total = sum(weights.values())
        return [math.log(weights[token] / total) if token in weights else -99.0 for token in candidates]


def expected(text):
    """Raw first-token scores of the decoder above."""
    row = asyncio.run(
        Spelling().first_tokens(EchoTokenizer().encode(f"Question: {text}<|im_end|>"), range(32, 123))
    )
    return [row[ord(label[0]) - 32] for label in TEXTS]


@pytest.fixture
def spelling(serve):
    async def opened():
        return Spelling()

    with serve(open_decoder=opened) as running:
        while running.parts.engine.state == "starting":
            pass
        yield running


def ask(running, **body):
    body = {"model": "echo", "template": "question-type@1", "input": "hello", **body}
    return httpx.post(f"{running.url}/v1/classify", json=body, timeout=20)


def test_a_text_gets_the_likeliest_label_and_every_probability(spelling):
    answer = ask(spelling, input=["aaaaaaaaaaaa", "llllllllllll"]).json()
    first, second = answer["data"]
    assert (first["label"], first["text"], second["label"]) == ("ABBR", "Abbreviation", "LOC")
    assert first["index"] == 0
    assert list(first["logprobs"].values()) == pytest.approx(expected("aaaaaaaaaaaa"))
    assert list(first["probabilities"].values()) == pytest.approx(probabilities(expected("aaaaaaaaaaaa")))
    assert answer["labels"] == IDS
    of = answer["calibration"].pop("of")
    assert (of["template"], of["demos"], of["labels"]) == ("question-type@1", 8, IDS)
    assert answer["calibration"] == {"method": "none", "prompts": 0, "temperature": 1.0, "sha256": None}
    assert answer["scoring"] == "first_token"
    assert answer["usage"]["prompt_tokens"] > 0


def test_a_batch_is_calibrated_by_itself_and_a_few_texts_by_content_free_inputs(spelling):
    texts = [f"{'ADEHLN'[at % 6] * (at % 5 + 1)} {at}" for at in range(64)]
    raw = np.array([expected(text) for text in texts])
    batch = ask(spelling, input=texts, calibrate="batch").json()
    assert (batch["calibration"]["method"], batch["calibration"]["prompts"]) == ("batch", 64)
    shown = np.array([list(one["probabilities"].values()) for one in batch["data"]])
    assert shown == pytest.approx(calibrated(raw, mean_probabilities(raw)))
    free = ask(spelling, input=texts[:3], calibrate="content_free").json()
    blank = [expected(text) for text in ("N/A", "", "[MASK]")]
    shown = np.array([list(one["probabilities"].values()) for one in free["data"]])
    assert shown == pytest.approx(calibrated(raw[:3], mean_probabilities(blank)))
    assert free["calibration"]["prompts"] == 3
    refused = ask(spelling, input=texts[:63], calibrate="batch")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "calibrate")
    assert "64" in refused.json()["error"]["message"]


def test_whole_labels_can_be_scored(spelling):
    one = ask(spelling, input="nnnnuuummmbbbeeerrr", scoring="sequence").json()["data"][0]
    assert one["label"] == "NUM"
    text = "Entity"
    decoder, prompt = Spelling(), EchoTokenizer().encode("Question: nnnnuuummmbbbeeerrr<|im_end|>")
    each = [asyncio.run(decoder.first_tokens(prompt, [ord(char)]))[0] for char in text]
    assert one["logprobs"]["ENTY"] == pytest.approx(sum(each))


def test_the_journal_holds_the_turn_and_feedback_joins_each_text(spelling):
    answer = ask(spelling, input=["aaaaaaaaaaaa", "llllllllllll"], user="kim", metadata={"a": "b"}).json()
    rows = spelling.journalled(answer["id"])
    assert json.loads(rows["replies.texts"]) == ["Abbreviation", "Location"]
    assert rows["plans.template"] == "question-type@1"
    assert rows["plans.prompt_sha256"] == answer["prompt_sha256"]
    assert (rows["replies.outcome"], rows["exposures.unit_kind"]) == ("stop", "user")
    body = {"id": answer["id"], "metric": "correction", "value": "LOC", "choice": 1}
    assert httpx.post(f"{spelling.url}/v1/feedback", json=body).status_code == 200
    assert httpx.post(f"{spelling.url}/v1/feedback", json={**body, "choice": 2}).status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"template": "nothing"}, 404, "fewshot.template"),
        ({"template": "few-shot"}, 400, "template"),
        ({"model": "other"}, 404, "model"),
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["a"] * 513}, 400, "input"),
        ({"scoring": "guess"}, 400, "scoring"),
        ({"variables": {"x": "y"}}, 400, "fewshot.variables"),
        ({"template": "sentiment", "scoring": "first_token"}, 400, "scoring"),
        ({"temperature": 1.0}, 400, "temperature"),
    ],
)
def test_what_cannot_be_honoured_is_refused(spelling, body, status, param):
    refused = ask(spelling, **body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


def test_every_field_has_a_class():
    assert set(CLASSIFY) == set(ClassifyRequest.model_fields)


def test_a_kept_calibrator_answers_for_its_setting_only(serve, tmp_path):
    decoder = Spelling()
    of = Scored(
        template=KINDS.reference,
        template_sha256=KINDS.digest,
        labels=tuple(IDS),
        scoring="first_token",
        demos=0,
        pool_sha256=None,
        model_sha256=decoder.profile.sha256,
    )
    raw = [expected(f"{'ADEHLN'[at % 6]} {at}") for at in range(64)]
    kept = fit(of, raw, gold=[at % 6 for at in range(64)])
    write(kept, tmp_path / "calibrators")

    async def opened():
        return decoder

    with serve(open_decoder=opened, calibrators=read_all(tmp_path / "calibrators")) as running:
        while running.parts.engine.state == "starting":
            pass
        answer = ask(running, input="llll", demos=0).json()
        assert answer["calibration"]["sha256"] == kept.digest
        shown = list(answer["data"][0]["probabilities"].values())
        assert shown == pytest.approx(kept.probabilities(expected("llll")))
        for other in ({"calibrate": "none"}, {"scoring": "sequence"}):
            assert ask(running, demos=0, **other).json()["calibration"]["sha256"] is None


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=2, max_size=6, unique=True),
    st.integers(0, 9),
)
def test_the_tree_walk_gives_each_label_the_product_of_its_tokens(labels, salt):
    """Against the definition, on a made-up model whose next character depends on all before it."""
    asked = []

    async def next_tokens(ids, candidates):
        asked.append(ids)
        draw = np.random.default_rng([salt, *ids]).dirichlet(np.ones(3))
        return [float(np.log(draw[token - ord("a")])) for token in candidates]

    ids = tuple(tuple(map(ord, label)) for label in labels)
    tokens = LabelTokens(ids, "sequence")
    found = asyncio.run(score_labels((7,), tokens, next_tokens))
    assert len(asked) == len(set(asked)) == tokens.steps
    for label, score in zip(ids, found, strict=True):
        parts = [asyncio.run(next_tokens((7, *label[:at]), [label[at]]))[0] for at in range(len(label))]
        assert score == pytest.approx(sum(parts))


def test_a_label_that_begins_another_ends_with_the_turns_end():
    tokenizer = EchoTokenizer()
    nested = replace(KINDS, labels=LabelSet((Label("a", "card"), Label("b", "card lost"))))
    tokens = label_tokens(nested, tokenizer, "sequence")
    assert [tokenizer.decode(ids) for ids in tokens.ids] == ["card<|im_end|>", "card lost<|im_end|>"]
    assert label_tokens(KINDS, tokenizer, None).way == "first_token"


def test_the_settings_name_the_folder_of_calibrators(tmp_path):
    settings = load_settings(environ={"FEWSHOT_PATHS_CALIBRATORS": str(tmp_path)})
    assert settings.paths.calibrators == tmp_path
