"""Same work in both arms, or no figure at all (performance.md §3.2)."""

import hashlib
from collections.abc import Sequence

from bench.client import Told
from bench.clocked import Decoded
from bench.crowd import Answer, seen
from bench.records import Check
from bench.workloads import ChatPrompt
from server.token_bytes import token_bytes

CLIENT_SHARE = 0.7  # of a core; above it the client is measured (vllm issue 7935: an apparent factor of 5)


def below_its_core(client_share: float) -> Check:
    """The client's share of a core while it loaded a server."""
    return Check(
        "the client stayed below 70 % of a core", client_share < CLIENT_SHARE, f"{client_share:.0%} at most"
    )


class SameWork:
    """Collects what differs between the bare decoder and the server, prompt by prompt."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._errors: list[str] = []
        self._prompts: list[str] = []
        self._lengths: list[str] = []
        self._cached: list[str] = []
        self._seen: set[tuple[int, ...]] = set()
        self._repeated = 0
        self.compared = 0

    def fresh(self, prompts: Sequence[ChatPrompt]) -> None:
        """These prompts are about to be asked, once by each arm."""
        for prompt in prompts:
            self._repeated += prompt.ids in self._seen
            self._seen.add(prompt.ids)

    def bare(self, decoded: Sequence[Decoded], lengths: Sequence[int] = ()) -> None:
        """`lengths` where answers are not all of the same."""
        for answer, wanted in zip(decoded, lengths or [self._tokens] * len(decoded), strict=True):
            self._count("A1", answer.tokens, answer.cached_tokens, wanted)

    def served(self, told: Sequence[Told], prompts: Sequence[ChatPrompt]) -> None:
        """`told` in the order of `prompts`."""
        self.answered([seen(answer) for answer in told], prompts)

    def answered(
        self,
        answers: Sequence[Answer],
        prompts: Sequence[ChatPrompt],
        arm: str = "A4",
        lengths: Sequence[int] = (),
    ) -> None:
        """`answers` in the order of `prompts`; `lengths` where they are not all of the same."""
        all_of = lengths or [self._tokens] * len(answers)
        for answer, prompt, wanted in zip(answers, prompts, all_of, strict=True):
            self.compared += 1
            if answer.problem:
                self._errors.append(answer.problem)
                continue
            self._count(arm, answer.tokens, answer.cached_tokens, wanted)
            if answer.prompt_sha256 != hashlib.sha256(token_bytes((prompt.ids,))).hexdigest():
                self._prompts.append(prompt.text[:40])

    def checks(self, client_share: float) -> list[Check]:
        return [
            Check("no errors", not self._errors, "; ".join(self._errors[:2])),
            Check("the server's prompt ids have the SHA-256 of the bare arm's", not self._prompts),
            Check(
                "every answer has the length that was asked for",
                not self._lengths,
                "; ".join(self._lengths[:3]),
            ),
            Check("no prompt was asked twice", not self._repeated),
            Check("no prompt found a cached prefix", not self._cached, "; ".join(self._cached[:3])),
            below_its_core(client_share),
        ]

    def _count(self, arm: str, tokens: int, cached: int, wanted: int) -> None:
        if tokens != wanted:
            self._lengths.append(f"{arm}: {tokens} tokens")
        if cached:
            self._cached.append(f"{arm}: {cached} tokens")
