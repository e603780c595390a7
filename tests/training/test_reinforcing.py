"""A policy is tuned by a reward: PPO, RLOO and GRPO end to end on a small model, and the pieces by hand."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from server.adapters.manifest import read_manifest
from tests.training.conftest import BAD, GOOD
from tests.training.test_reward import comparisons
from training.adapting import adapted
from training.advantages import k3
from training.commands import train
from training.policy import Policy, Rollout, Sampler
from training.policy_report import Answers, Asked, measured, summary
from training.reinforcing import Batch, Course, loss_of, reinforce

PROMPTS = [(9 + at % 20, 10 + at % 7) for at in range(12)]


@pytest.fixture(scope="module")
def base(bases, tmp_path_factory):
    """The decoder with embeddings of usual length: those of random weights tell no two words apart."""
    model = AutoModelForCausalLM.from_pretrained(bases["decoder"])
    with torch.no_grad():
        model.get_input_embeddings().weight *= 10
    folder = tmp_path_factory.mktemp("sharp") / "decoder"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(bases["decoder"]).save_pretrained(folder)
    return folder


@pytest.fixture
def policy(base):
    model, tokenizer = adapted(base, "cpu", "lora", rank=4, tokens=1, seed=3)
    return Policy(model, tokenizer)


class Wanting:
    """Rewards answers by the share of their tokens that are one of a few."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = tokens

    def rewards(self, rollouts):
        return torch.tensor([np.mean([token in self._tokens for token in one.answer]) for one in rollouts])


def moved(policy, seed=0):
    """The same policy with a LoRA that changes something."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in policy.adapter().values():
            one += 0.3 * torch.randn(one.shape, generator=draw)
    return policy


def test_the_probability_of_an_answer_is_that_of_its_tokens_whatever_stands_beside_it(policy):
    moved(policy)
    short = Rollout(0, (9, 10, 11), (12, 2), True)
    long = Rollout(0, (9,) * 40, (13, 14, 15, 16, 17), False)
    together, _, mask = policy.scored([short, long], 8)
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[9, 10, 11, 12, 2]])).logits[0].log_softmax(-1)
    assert together[0, :2].tolist() == pytest.approx([float(logits[2, 12]), float(logits[3, 2])], abs=1e-5)
    assert mask.sum(1).tolist() == [2, 5]
    assert together[0, 2:].abs().sum() == 0
    alone, _, _ = policy.scored([long], 8)
    assert together[1].tolist() == pytest.approx(alone[0].tolist(), abs=1e-5)


def test_the_reference_is_the_start_and_comes_back_after_an_error(policy):
    row = [Rollout(0, (9, 10), (11, 12, 2), True)]
    before = policy.scored(row, 4)[0]
    moved(policy)
    after = policy.scored(row, 4)[0]

    def fail():
        with policy.reference():
            assert torch.equal(policy.scored(row, 4)[0], before)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(policy.scored(row, 4)[0], after)
    assert (after - before).abs().max() > 0.01


def test_answers_are_drawn_from_the_tuned_policy_and_by_their_seed(base, policy):
    sampler = Sampler(policy, base)
    moved(policy)
    sampler.sync()
    greedy = sampler.draw([(9, 10, 11), (12,)], 1, 6, 1, greedy=True)
    with torch.no_grad():
        for one in greedy:  # against the network with its LoRA, token by token
            ids = list(one.prompt)
            for token in one.answer:
                assert int(policy.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) == token
                ids.append(token)
    state = torch.random.get_rng_state()
    first = sampler.draw(PROMPTS, 3, 6, 5)
    assert first == sampler.draw(PROMPTS, 3, 6, 5)
    assert first != sampler.draw(PROMPTS, 3, 6, 6)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [one.question for one in first] == [at for at in range(12) for _ in range(3)]
    assert all(one.ended == (one.answer[-1] == 2) and 2 not in one.answer[:-1] for one in first)


def test_the_share_of_a_drawn_token_is_its_probability(base, policy):
    sampler = Sampler(policy, base)
    moved(policy)
    sampler.sync()
    drawn = [one.answer[0] for one in sampler.draw([(9, 10)], 2000, 1, 5)]
    with torch.no_grad():
        want = policy.model(input_ids=torch.tensor([[9, 10]])).logits[0, -1].softmax(-1)
    seen = torch.bincount(torch.tensor(drawn), minlength=len(want)) / 2000
    assert (seen - want).abs().max() < 5 * 0.5 / 2000**0.5


@pytest.mark.parametrize("method", ["rloo", "grpo", "ppo"])
def test_the_loss_is_the_published_one(method):
    course = Course(method=method, most_tokens=4, beta=0.1)
    old = torch.tensor([[-1.0, -2.0, -1.5], [-0.5, 0.0, 0.0]])
    now = torch.tensor([[-0.9, -2.5, -1.5], [-0.4, 0.0, 0.0]])
    reference = torch.tensor([[-1.2, -2.0, -1.0], [-0.7, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 0]])
    advantages = torch.tensor([[0.5, -0.5, 1.0], [-1.0, 0, 0]])
    values, returns = torch.full((2, 3), 0.25), torch.full((2, 3), 1.25)
    batch = Batch([], old, reference, mask, advantages, returns)
    loss, outside = loss_of(now, values, batch, [0, 1], course)
    want = 0.0
    for row in range(2):
        terms = []
        for at in range(3):
            if mask[row, at]:
                ratio, gain = float(torch.exp(now[row, at] - old[row, at])), float(advantages[row, at])
                term = -min(ratio * gain, min(max(ratio, 0.8), 1.2) * gain)
                if method == "grpo":
                    term += 0.1 * float(k3(now[row, at], reference[row, at]))
                if method == "ppo":
                    term += 0.5 * (0.25 - 1.25) ** 2
                terms.append(term)
        want += sum(terms) / (len(terms) if method == "grpo" else 4)
    assert float(loss) == pytest.approx(want, abs=1e-6)
    assert float(outside) == 1  # e^−0.5 alone


@pytest.mark.parametrize("method", ["rloo", "grpo", "ppo"])
def test_the_gradient_is_that_of_finite_differences(method):
    draw = torch.Generator().manual_seed(2)
    old, reference, returns = (torch.randn(3, 4, generator=draw, dtype=torch.float64) for _ in range(3))
    mask = (torch.arange(4) < torch.tensor([[4], [2], [1]])).double()
    batch = Batch([], old * mask, reference * mask, mask, torch.randn(3, 4, generator=draw).double(), returns)
    course = Course(method=method, most_tokens=4)
    near = (old + 0.1 * torch.randn(3, 4, generator=draw).double()) * mask  # within and outside of the range
    values = torch.randn(3, 4, generator=draw).double()
    torch.autograd.gradcheck(
        lambda logps, said: loss_of(logps, said, batch, [0, 1, 2], course)[0],
        (near.requires_grad_(), values.requires_grad_()),
    )


def test_the_first_step_of_rloo_is_reinforce(policy):
    """The gradient of the clipped ratio at the drawn policy is that of −A Σ ln π."""
    rows = [Rollout(0, (9, 10), (11, 12, 2), True), Rollout(0, (9, 10), (14, 2), True)]
    moved(policy)
    course = Course(method="rloo", most_tokens=3, samples=2)
    old, values, mask = policy.scored(rows, 3)
    advantages = torch.tensor([[0.7], [-0.7]]) * mask
    batch = Batch(rows, old, old, mask, advantages, torch.zeros_like(old))
    logps, values, _ = policy(rows)
    loss_of(logps, values, batch, [0, 1], course)[0].backward()
    clipped = {name: one.grad.clone() for name, one in policy.adapter().items() if one.grad is not None}
    policy.zero_grad()
    logps, _, _ = policy(rows)
    (-(logps * advantages).sum() / 3).backward()
    for name, one in policy.adapter().items():
        if one.grad is not None:
            assert torch.allclose(one.grad, clipped[name], atol=1e-6)


@pytest.mark.parametrize("method", ["rloo", "grpo", "ppo"])
def test_reward_rises_and_the_divergence_holds_it_back(base, policy, method):
    sampler = Sampler(policy, base)
    course = Course(
        method=method, steps=20, prompts=8, samples=4, most_tokens=4, learning_rate=0.02, beta=0.02, seed=5,
        passes=2 if method == "ppo" else 1, parts=2 if method == "ppo" else 1, checks=2,
    )  # fmt: skip
    want = Wanting(7, 8, 9)
    done = reinforce(policy, sampler, want, PROMPTS[:8], PROMPTS[8:], course)
    assert done.turns[-1].reward > done.turns[0].reward + 0.3
    assert done.after > done.before
    assert done.turns[0].kl == pytest.approx(0, abs=1e-4)
    assert done.turns[-1].kl > 0.5
    questions = [Asked(one, "", None) for one in PROMPTS[8:]]
    tuned = measured(policy, sampler, want, questions, each=4, most=4, seed=5, greedy=False)
    loss = float((torch.from_numpy(tuned.reward) - course.beta * torch.from_numpy(tuned.kl)).mean())
    assert loss == pytest.approx(done.after, abs=1e-5)  # what was kept is what was best


class Indifferent:
    """Rewards every answer alike, whether it ends or not."""

    def rewards(self, rollouts):
        return torch.tensor([-4.0 + (not one.ended) for one in rollouts])


def test_what_is_worth_the_same_whatever_is_said_moves_no_policy(base, policy):
    """From a value of 0, answers of −4 would teach PPO that tokens near the end are bad: never to end."""
    before = {name: one.detach().clone() for name, one in policy.adapter().items()}
    course = Course(method="ppo", steps=3, prompts=8, most_tokens=6, learning_rate=0.02, passes=2, parts=2)
    done = reinforce(policy, Sampler(policy, base), Indifferent(), PROMPTS[:8], PROMPTS[8:], course)
    assert [turn.kl for turn in done.turns] == pytest.approx([0.0] * 3, abs=1e-4)
    assert all(torch.allclose(one, before[name], atol=1e-5) for name, one in policy.adapter().items())


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(base, tmp_path):
    def run(steps_seen):
        model, tokenizer = adapted(base, "cpu", "lora", rank=2, tokens=1, seed=3)
        policy = Policy(model, tokenizer)
        sampler = Sampler(policy, base)
        course = Course(method="ppo", steps=6, prompts=4, most_tokens=3, learning_rate=0.01, checks=3)

        def stop(turn, left):
            if turn.step == steps_seen:
                raise KeyboardInterrupt

        done = reinforce(
            policy, sampler, Wanting(7, 8), PROMPTS[:8], PROMPTS[8:], course, say=stop,
            checkpoint=tmp_path / f"{'half' if stopping else 'whole'}.safetensors",
        )  # fmt: skip
        return done.turns, {name: one.detach().clone() for name, one in policy.adapter().items()}

    stopping = False
    turns, whole = run(-1)
    stopping = True
    with pytest.raises(KeyboardInterrupt):
        run(5)  # behind the look at step 4
    again, half = run(-1)
    assert again == turns
    assert all(torch.equal(half[name], whole[name]) for name in whole)


def test_what_differs_is_told_by_question():
    def answers(reward, f1):
        flat = np.zeros((6, 2))
        return Answers(flat + reward, flat + f1, flat + 3, flat + 1, flat + 0.5, 0.1, [""] * 12)

    content = summary(answers(0.0, 0.2), answers(1.0, 0.2))
    assert content["reward"]["difference"] == (1, 1, 1)
    assert content["reward"]["p"] == pytest.approx(2 / 64, abs=0.01)
    assert content["wins"]["share"] == (1, 1, 1)
    assert (content["f1"]["difference"].mean, content["f1"]["p"]) == (0, 1)


def test_from_comparisons_to_adapters_that_the_server_reads(base, tmp_path):
    """sft → reward → RLOO and PPO, by the commands; and DPO from the same start."""

    def command(*given):
        found = CliRunner().invoke(
            train, [*given, "--base", str(base), "--out", str(tmp_path)], catch_exceptions=False
        )
        assert found.exit_code == 0, found.output
        return found.stdout.strip().splitlines()[-1]

    comparisons(tmp_path, 40)
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row | {"reference": f"{GOOD[0]} {GOOD[1]}"}) for row in rows))
    reward = command(
        "reward", "--data", str(path), "--name", "taste", "--epochs", "4", "--learning-rate", "0.01"
    )
    demonstrations = tmp_path / "sft.jsonl"
    demonstrations.write_text(
        "\n".join(json.dumps({"prompt": row["prompt"], "completion": f"{BAD[0]} {GOOD[0]}"}) for row in rows)
    )
    sft = command(
        "sft", "--data", str(demonstrations), "--name", "start", "--rank", "2", "--learning-rate", "0.02"
    )
    given = ["--data", str(path), "--reward", reward, "--from", sft, "--steps", "2", "--prompts", "4"]
    given += ["--samples", "2", "--answer-tokens", "6", "--learning-rate", "0.01"]
    for method in ("rloo", "ppo"):
        tuned = command(method, "--name", method, "--plot", str(tmp_path / f"{method}.png"), *given)
        folder = tmp_path / method / tuned.split("@")[1]
        manifest = read_manifest((folder / "manifest.json").read_bytes())
        assert (manifest.kind, manifest.parent) == ("lora", sft)
        assert set(load_file(folder / "adapter_model.safetensors")) == set(
            load_file(tmp_path / "start" / sft.split("@")[1] / "adapter_model.safetensors")
        )
        report = json.loads((folder / "report.json").read_text())
        assert len(report["turns"]) == 2
        assert report["test"]["drawn"]["f1"]["start"] > 0
    assert (tmp_path / "ppo.png").stat().st_size > 10_000
    dpo = command("dpo", "--data", str(path), "--name", "dpo", "--from", sft, "--epochs", "1")
    assert read_manifest((tmp_path / "dpo" / dpo.split("@")[1] / "manifest.json").read_bytes()).parent == sft
    judged = ["judge", tuned, "--data", str(path), "--reward", reward, "--answer-tokens", "6", "--json"]
    same = json.loads(command(*judged, "--against", sft, "--samples", "2"))
    assert same["drawn"]["reward"] == report["test"]["drawn"]["reward"]  # as the command said it
    itself = json.loads(command(*judged, "--against", tuned))
    assert itself["greedy"]["wins"]["share"] == [0.5, 0.5, 0.5]
    assert itself["drawn"]["kl"]["answer"] == 0


def test_a_start_or_reward_that_is_none_is_refused(base, tmp_path):
    path = comparisons(tmp_path, 40)
    given = [
        "rloo",
        "--data",
        str(path),
        "--name",
        "x",
        "--base",
        str(base),
        "--out",
        str(tmp_path),
    ]
    found = CliRunner().invoke(train, [*given, "--reward", "taste@1"])
    assert found.exit_code == 1
    assert "no 'taste@1' in" in found.output
    small = ["--name", "taste", "--base", str(base), "--out", str(tmp_path), "--epochs", "0.2"]
    reward = CliRunner().invoke(train, ["reward", "--data", str(path), *small]).stdout.split()[-1]
    found = CliRunner().invoke(train, [*given, "--reward", reward, "--from", reward])
    assert found.exit_code == 1
    assert "is a reward: a policy starts from a LoRA" in found.output
