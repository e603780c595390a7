"""The comparison of demonstrations: prompts, batched scores, figures, and what the command may import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.icl.command import reported
from bench.icl.conditions import Bound, Condition, conditions, laid_out, tokenizer_of
from bench.icl.judging import Measured, errors_of, judged
from bench.icl.packs import TEMPLATES, make_ready, open_ready, template_of
from bench.icl.scoring import BatchedScorer, shared_start
from indexer.hash_embedder import HashEmbedder
from prompts.calibration import calibration_error, probabilities
from prompts.records import Message
from server.label_scoring import label_tokens
from server.token_reading import TokenReading
from server.vllm_decoder.tokenizer import VllmTokenizer

WORDS = {"neg": ("dull", "slow", "poor", "empty"), "pos": ("warm", "funny", "fine", "bright")}
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def text(mood, at):
    words = WORDS[mood]
    return f"a {words[at % 4]} film number {at} , {words[at // 4 % 4]} to the end"


@pytest.fixture(scope="session")
def pack(tmp_path_factory):
    """Named as a real one, so that it has a template: 80 train rows and 12 test rows, one said in both."""
    folder = tmp_path_factory.mktemp("data") / "c-sst2"
    (folder / "dev").mkdir(parents=True)
    for part, rows in (("train", range(40)), ("test", range(100, 106))):
        lines = [
            {"id": f"{part}-{mood}{at}", "text": text(mood, at), "label_name": mood}
            for at in rows
            for mood in ("neg", "pos")
        ]
        if part == "test":
            lines[0]["text"] = text("neg", 3).upper()
        (folder / "dev" / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A small random Llama with a byte tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    texts = [
        f"Review: {text(mood, at)}\nSentiment: {word}"
        for mood in WORDS
        for at in range(40)
        for word in ("positive", "negative")
    ]
    own.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=own, eos_token="<|im_end|>", additional_special_tokens=special, chat_template=CHAT
    )
    fast.save_pretrained(folder)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def ready(pack, tmp_path):
    return make_ready(pack, tmp_path, None, None, HashEmbedder().passages, HashEmbedder().passages)


def test_the_pool_says_nothing_that_a_test_item_says(ready):
    opened = open_ready(ready.name, ready.folder)
    assert ready.removed == 1
    assert len(opened.pools["text"]) == 79
    assert "train-neg3" not in {demo.id for demo in opened.pools["text"].demos}
    assert set(opened.pools) == {"text", "labels", "own"}
    assert opened.gold.tolist() == [0, 1] * 6


def test_every_pack_has_a_template_whose_labels_are_told_apart_by_one_token_each(model):
    for name in TEMPLATES:
        template = template_of(name)
        assert template.labels is not None
        assert template.labels.score == "first_token"
        texts = [label.text for label in template.labels.labels]
        assert len({one.split()[0].lower() for one in texts}) == len(texts)


def test_prompts_are_those_of_the_pool_and_the_reading(ready, model):
    opened = open_ready(ready.name, ready.folder)
    chosen = conditions((4,), (11, 23), own=True)
    reading = TokenReading(tokenizer_of(model), plain=True)
    sets = laid_out(opened, chosen, range(3, 6), reading, 2048)
    assert len(sets) == sum(len(condition.seeds) for condition in chosen) == 1 + 2 + 7
    assert all(len(one) == 3 for one in sets)
    assert np.isnan(sets[0][0].vote)
    said = tokenizer_of(model).decode(sets[0][0].ids.tolist())
    assert said == f"Review: {opened.texts[3]}\nSentiment:"
    assert tokenizer_of(model).decode(sets[1][1].ids.tolist()).count("Review:") == 5
    starts = {tuple(row.ids[:40].tolist()) for row in sets[1]}
    assert len(starts) == 1  # one draw for all questions
    assert not np.array_equal(sets[1][0].ids[:40], sets[2][0].ids[:40])


def test_ids_are_those_of_the_served_tokenizer(model):
    from transformers import AutoTokenizer

    served, own = VllmTokenizer(AutoTokenizer.from_pretrained(model)), tokenizer_of(model)
    talk = [Message("system", "Be brief."), Message("user", "Wie heißt das?"), Message("assistant", "Emma")]
    assert own.chat(talk[:2]) == served.chat(talk[:2])
    assert own.chat(talk) == served.chat(talk)
    assert own.encode(text("pos", 3)) == served.encode(text("pos", 3))
    assert own.special_ids == served.special_ids


def test_tokens_are_only_counted_where_bytes_leave_a_doubt(model):
    reading = TokenReading(tokenizer_of(model), plain=True)
    messages = [Message("user", "a warm film " * 20)]
    assert Bound(reading, 1000)(messages) > len(reading.ids(messages))
    assert Bound(reading, 100)(messages) == len(reading.ids(messages))


@pytest.mark.parametrize("way", ["first_token", "sequence"])
def test_batched_scores_are_those_of_one_prompt_at_a_time(ready, model, way):
    import torch
    from transformers import AutoModelForCausalLM

    opened = open_ready(ready.name, ready.folder)
    reading = TokenReading(tokenizer_of(model), plain=True)
    sets = laid_out(opened, conditions((8,), (11,), own=False), range(12), reading, 2048)
    labels = label_tokens(opened.template, tokenizer_of(model), way)
    scorer = BatchedScorer(model, "cpu", "float32", batch_tokens=900)
    plain = AutoModelForCausalLM.from_pretrained(model).eval()

    def alone(ids):
        rows = []
        for label in labels.ids:
            whole = torch.tensor([[*ids.tolist(), *label]])
            with torch.inference_mode():
                logprobs = plain(whole).logits[0].float().log_softmax(-1)
            taken = label[:1] if way == "first_token" else label
            rows.append(sum(float(logprobs[len(ids) - 1 + at, token]) for at, token in enumerate(taken)))
        return rows

    shared = [shared_start([row.ids for row in one])[0] for one in sets]
    assert shared[1] >= 48  # the random draw
    for one in sets[:3]:
        found = scorer.score([row.ids for row in one], labels)
        assert np.allclose(found, [alone(row.ids) for row in one], atol=1e-4)


def test_a_prompt_unlike_the_others_does_not_cost_them_their_start():
    start = list(range(60))
    prompts = [np.array([*start, 100 + at, at], dtype=np.int32) for at in range(40)]
    prompts[7] = np.arange(500, 530, dtype=np.int32)
    shared, rows = shared_start(prompts)
    assert (shared, rows) == (60, [at for at in range(40) if at != 7])
    assert shared_start(prompts[:2]) == (0, [])
    alike = [np.arange(50, dtype=np.int32)] * 5
    assert shared_start(alike) == (49, [0, 1, 2, 3, 4])


def table(rng, gold, sharpness):
    scores = rng.normal(size=(len(gold), 3))
    scores[np.arange(len(gold)), gold] += sharpness
    return scores


def test_figures_of_a_better_and_of_a_worse_choice():
    rng = np.random.default_rng(2)
    gold = rng.integers(3, size=300)
    biased = np.array([3.0, 0.0, 0.0])
    random = np.stack([1.5 * table(rng, gold, 1.0) + biased for _ in range(5)])
    measured = [
        Measured(Condition("zero-shot"), table(rng, gold, 0.1)[None], 20, None),
        Measured(Condition("random", 4, "random", seeds=(1, 2, 3, 4, 5)), random, 90, 0.3),
        Measured(Condition("nearest", 4, "nearest", "labels"), 4 * table(rng, gold, 2.5)[None], 95, 0.8),
    ]
    result = judged("c-x", gold, measured)
    assert result["nearest_beats_random"]
    assert result["calibration_lowers_error"]
    (only,) = [one for one in result["against_random"] if one["condition"] == "nearest"]
    assert result["nearest - random"]["raw"] == pytest.approx(only["raw"])  # one number of demonstrations
    row = result["rows"][1]
    assert row["batch - raw"][1] > 0  # the bias towards one label is divided out
    assert len(row["per_seed"]) == 5
    mean = np.mean([calibration_error(probabilities(seed), gold) for seed in random])
    assert row["error"]["raw"][0] == pytest.approx(mean)
    assert row["error"]["calibrated - raw"][2] < 0


def test_resampled_errors_are_those_of_the_plain_function():
    rng = np.random.default_rng(4)
    gold = rng.integers(3, size=50)
    shares = probabilities(table(rng, gold, 1.0))[None]
    found, _ = errors_of(shares, {"same": shares}, gold)
    drawn = np.random.default_rng(7).integers(50, size=(500, 50))
    each = [calibration_error(shares[0][rows], gold[rows]) for rows in drawn]
    assert found["raw"][1:] == pytest.approx(tuple(np.quantile(each, [0.025, 0.975])))
    assert found["same - raw"] == (0, 0, 0)


BLOCKED = (
    *("vllm", "fastapi", "starlette", "sqlalchemy", "alembic", "tantivy", "faiss", "uvicorn", "orjson"),
    *("ulid", "rapidfuzz", "langchain_text_splitters", "lxml", "prometheus_client", "mcp", "openai"),
)


def test_the_command_runs_where_there_is_no_server_and_no_index(pack, model, tmp_path):
    """In the whole tree of processes: a GPU machine has torch and transformers, and none of the above."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {BLOCKED}:\n"
        "            raise ImportError(f'{name} is not here')\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    root = Path(__file__).parents[2]
    command = [
        *(sys.executable, "-m", "bench", "icl", "--data", str(pack.parent), "--packs", pack.name),
        *("--model", str(model), "--embedder", "hash", "--out", str(tmp_path / "out"), "--scorer"),
        *("transformers", "--shots", "4", "--seeds", "1,2", "--items", "10", "--processes", "2"),
    ]
    where = {"PYTHONPATH": f"{tmp_path / 'blocked'}:{root}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=root, env=os.environ | where, timeout=250
    )
    assert "c-sst2: scored" in done.stdout, done.stdout + done.stderr
    assert done.returncode in (0, 1), done.stderr
    figures = json.loads((tmp_path / "out" / "icl.json").read_text())
    (one,) = figures["packs"]
    assert one["items"] == 10
    assert [row["condition"] for row in one["rows"]] == [
        *("zero-shot", "random", "BM25", "nearest", "nearest by text", "MMR", "DPP", "balanced")
    ]
    assert (tmp_path / "out" / "icl.png").stat().st_size > 10_000
    again = tmp_path / "again"
    again.mkdir()
    held = reported(["c-sst2"], tmp_path / "out", again)
    assert (again / "few-shot.md").read_text() == (tmp_path / "out" / "icl.md").read_text()
    assert held == (one["nearest_beats_random"] and one["calibration_lowers_error"])
