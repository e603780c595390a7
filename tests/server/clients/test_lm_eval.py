"""lm-evaluation-harness over HTTP, unmodified: its numbers are those of the same weights in transformers.

Echo with log-probabilities is what this stands or falls with: every label is scored by it.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from bench.servers import fewshot_server
from server.settings import Settings
from tests.environments import python_of
from tests.server.clients.oracle import Oracle

TASKS = Path(__file__).parent / "tasks"
NAME = "smollm2-135m-instruct"
FOLDER = Settings().paths.cache / "models" / NAME
QUESTIONS = 24
# Both sum float32 log-probabilities in another order; a wrong token would cost whole units.
CLOSE = 1e-3
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A server of the real model, whose KV cache is no larger than this needs."""
    assert FOLDER.is_dir(), "run `fewshot models fetch`"
    settings = {
        "FEWSHOT_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        "FEWSHOT_ENGINE_KV_CACHE_BYTES": str(2**28),
    }
    with fewshot_server(settings) as (_, port):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="module")
def oracle():
    return Oracle(FOLDER)


def evaluated(kind: str, url: str, tasks: str, out: Path, *options: str, **arguments: str):
    """Results by task, and the samples of each: what was asked and what came back."""
    python = python_of("lm-eval")
    given = {"model": NAME, "base_url": url, "num_concurrent": "4", "max_retries": "1", **arguments}
    command = [
        *(str(python), "-m", "lm_eval", "run", "--model", kind),
        *("--model_args", ",".join(f"{name}={value}" for name, value in given.items())),
        *("--tasks", tasks, "--include_path", str(TASKS), "--output_path", str(out), "--log_samples"),
        *options,
    ]
    apart = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(out / "hf"), "HOME": str(out)}
    done = subprocess.run(
        command,
        cwd=TASKS,  # the tasks name their file without a folder
        env={"PATH": os.environ["PATH"], **apart},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    (results,) = out.rglob("results_*.json")
    samples = {}
    for task in tasks.split(","):
        (file,) = out.rglob(f"samples_{task}_*.jsonl")
        samples[task] = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(samples[task]) == QUESTIONS
    return json.loads(results.read_text())["results"], samples


def choices_agree(results, samples, oracle) -> None:
    """Every log-likelihood, whether it is the greedy one, and the accuracy."""
    right = 0
    for sample in samples:
        expected = [
            oracle.choice(request["arg_0"], request["arg_1"]) for request in sample["arguments"].values()
        ]
        for ((loglikelihood, greedy),), ours in zip(sample["resps"], expected, strict=True):
            assert float(loglikelihood) == pytest.approx(ours.loglikelihood, abs=CLOSE)
            assert greedy == str(ours.greedy)
        best = max(range(len(expected)), key=lambda choice: expected[choice].loglikelihood)
        right += best == int(sample["target"])
    assert results["acc,none"] == pytest.approx(right / QUESTIONS)


def test_completions_score_and_write_as_transformers_does(url, oracle, tmp_path):
    tasks = "fewshot_choice,fewshot_text,fewshot_write"
    results, samples = evaluated(
        "local-completions", f"{url}/completions", tasks, tmp_path, tokenizer=str(FOLDER)
    )
    choices_agree(results["fewshot_choice"], samples["fewshot_choice"], oracle)
    total, bytes_ = 0.0, 0
    for sample in samples["fewshot_text"]:
        text = sample["target"]
        ours = oracle.whole(text)
        assert float(sample["resps"][0][0]) == pytest.approx(ours, abs=CLOSE)
        total, bytes_ = total + ours, bytes_ + len(text.encode())
    nats_a_bit = 0.6931471805599453
    assert results["fewshot_text"]["bits_per_byte,none"] == pytest.approx(-total / bytes_ / nats_a_bit)
    for sample in samples["fewshot_write"]:
        asked = sample["arguments"]["gen_args_0"]
        written = oracle.written(
            asked["arg_0"], until=asked["arg_1"]["until"], tokens=asked["arg_1"]["max_gen_toks"]
        )
        assert sample["resps"] == [[written]]


def test_batches_of_prompts_score_alike(url, oracle, tmp_path):
    results, samples = evaluated(
        "local-completions",
        f"{url}/completions",
        "fewshot_choice",
        tmp_path,
        *("--batch_size", "8"),
        tokenizer=str(FOLDER),
    )
    choices_agree(results["fewshot_choice"], samples["fewshot_choice"], oracle)


def test_chat_answers_as_transformers_does(url, oracle, tmp_path):
    _, samples = evaluated(
        "local-chat-completions",
        f"{url}/chat/completions",
        "fewshot_write",
        tmp_path,
        "--apply_chat_template",
    )
    for sample in samples["fewshot_write"]:
        asked = sample["arguments"]["gen_args_0"]
        (messages,) = asked["arg_0"]
        answered = oracle.answered(
            json.loads(messages), until=asked["arg_1"]["until"], tokens=asked["arg_1"]["max_gen_toks"]
        )
        assert sample["resps"] == [[answered]]
