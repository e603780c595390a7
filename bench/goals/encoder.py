"""G11: the encoder's arithmetic against what the same machine does in a bare matrix product.

FLOP of a token, after Kaplan et al. 2020 (arXiv 2001.08361, §2.1): 2 for each weight of a linear layer, and
4 · L · d in each block for the two products of attention over L tokens of width d. Token ids are given; what
tokenising the same texts costs stands beside it.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from tokenizers import Tokenizer

from bench.command import goal_options, measured
from bench.library import passage
from bench.machine import Watch, on_gpu_machine
from bench.records import Bar, Check, Curve, NotMeasured, Plot, Result
from bench.rounds import Sample, estimate, floor, interleave, level
from indexer.batches import batched
from indexer.sentence_models import TorchReplica
from server.settings import load_settings

LENGTHS = (32, 128, 254)  # tokens of a text
JUDGED = 128  # performance.md §1
SIDE = 2048  # of the matrices
BARS = {"cpu": (0.50, 0.70), "cuda": (0.20, 0.40)}
ROUNDS, QUICK_ROUNDS = 6, 2
TOKENS, QUICK_TOKENS = 16_384, 4_096  # a sample, on a processor; 64 times that on a card


class Encoder:
    """The default embedder on its best device, given ids."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise NotMeasured(f"{folder} is not there; `fewshot models fetch` brings it")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._replica = TorchReplica(folder, None, self._tokenizer)
        model: Any = self._replica._model
        self.device = str(model.device.type)
        config = model[0].auto_model.config
        self._linear = 2 * self._replica._products
        self._attention = 4 * config.hidden_size * config.num_hidden_layers
        self._words = [word for number in range(400) for word in passage(number).split()]

    def texts(self, length: int, tokens: int) -> list[list[int]]:
        """Ids of texts of exactly `length`, special ones included, `tokens` of them together."""
        ids = self._tokenizer.encode(" ".join(self._words)).ids
        first, last, inner = ids[0], ids[-1], ids[1:-1]
        step = length - 2
        cut = [inner[at : at + step] for at in range(0, len(inner) - step, step)]
        return [[first, *cut[number % len(cut)], last] for number in range(max(1, tokens // length))]

    def seconds(self, texts: list[list[int]]) -> float:
        groups = batched([len(text) for text in texts], self._replica.batch_tokens)
        began = time.perf_counter()
        for group in groups:
            self._replica.embed([], [texts[at] for at in group])
        return time.perf_counter() - began

    def flop(self, texts: list[list[int]]) -> float:
        return float(sum(len(text) * (self._linear + self._attention * len(text)) for text in texts))

    def tokenising(self, tokens: int) -> float:
        """Tokens a second on one thread of texts as long as a passage."""
        text = [" ".join(self._words[at : at + 135]) for at in range(0, len(self._words), 135)]
        began, count = time.perf_counter(), 0
        while count < tokens:
            count += sum(len(one.ids) for one in self._tokenizer.encode_batch_fast(text[:64]))
        return count / (time.perf_counter() - began)


def product(device: str) -> Callable[[], float]:
    """FLOP a second of a square matrix product: in 32 bits on a processor, in bfloat16 on a card."""
    import torch

    kind = torch.float32 if device == "cpu" else torch.bfloat16
    side, repeats = (SIDE, 8) if device == "cpu" else (4 * SIDE, 50)
    one, other = (torch.randn(side, side, dtype=kind, device=device) for _ in range(2))
    out = torch.empty_like(one)

    def rate() -> float:
        began = time.perf_counter()
        for _ in range(repeats):
            torch.mm(one, other, out=out)
        if device != "cpu":
            torch.cuda.synchronize()
        return repeats * 2 * side**3 / (time.perf_counter() - began)

    return rate


async def measure(rounds: int, tokens: int, folder: Path, say: Callable[[str], object]) -> Result:
    watch = Watch()
    encoder = Encoder(folder)
    tokens *= 1 if encoder.device == "cpu" else 64
    texts = {length: encoder.texts(length, tokens) for length in LENGTHS}
    rates: dict[int, list[float]] = {length: [] for length in LENGTHS}  # tokens a second

    async def encoding(length: int) -> float:
        spent = encoder.seconds(texts[length])
        rates[length].append(sum(map(len, texts[length])) / spent)
        return encoder.flop(texts[length]) / spent

    bare = product(encoder.device)

    async def multiplying() -> float:
        return bare()

    arms: dict[str, Sample] = {"product": multiplying}
    arms |= {f"encoder, {length} tokens": partial(encoding, length) for length in LENGTHS}
    say("encoder: warming up")
    await interleave(arms, 1)
    for kept in rates.values():
        kept.clear()
    found = await interleave(arms, rounds, say)
    shares = {
        length: estimate(
            [
                mine.mean / theirs.mean
                for mine, theirs in zip(found[f"encoder, {length} tokens"], found["product"], strict=True)
            ]
        )
        for length in LENGTHS
    }
    must, moon = BARS["cuda" if on_gpu_machine() else "cpu"]
    return Result(
        goal="encoder",
        title="G11: the encoder's arithmetic against a bare matrix product",
        workload=(
            f"{folder.name} on {encoder.device}, token ids given, {tokens:,} tokens a sample; product of "
            f"two matrices of {SIDE if encoder.device == 'cpu' else 4 * SIDE} rows; {rounds} rounds"
        ),
        bars=[
            Bar(
                name=f"FLOP a second ÷ product, texts of {length} tokens",
                measured=shares[length],
                sense="at least",
                must=must if length == JUDGED else None,
                moon=moon if length == JUDGED else None,
            )
            for length in LENGTHS
        ],
        ratio=shares[JUDGED],
        noise_floor=floor(found, "product"),
        rounds=found,
        arms={
            "product": {"GFLOP a second": level(found, "product").scaled(1e-9)},
            **{
                f"encoder, {length} tokens": {
                    "GFLOP a second": level(found, f"encoder, {length} tokens").scaled(1e-9),
                    "tokens a second": estimate(rates[length]),
                }
                for length in LENGTHS
            },
            "tokenizer, one thread": {"tokens a second": encoder.tokenising(tokens)},
        },
        checks=[Check("no text is padded", all(len({*map(len, some)}) == 1 for some in texts.values()))],
        machine=watch.describe(),
        plot=Plot(
            x="tokens of a text",
            y="share of the product",
            curves=[Curve(name="encoder", x=list(LENGTHS), y=[shares[length] for length in LENGTHS])],
            limit=must,
        ),
    )


@click.command()
@goal_options
def command(quick: bool, out: Path, anyway: bool) -> None:
    """The encoder's arithmetic over a bare matrix product (G11)."""
    rounds, tokens = (QUICK_ROUNDS, QUICK_TOKENS) if quick else (ROUNDS, TOKENS)
    folder = load_settings().paths.cache / "models" / "all-minilm-l6-v2"
    measured(lambda say: measure(rounds, tokens, folder, say), out=out, anyway=anyway)
