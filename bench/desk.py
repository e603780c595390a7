"""Who asks a server for adapters and moves them, and whether what was said is what should be."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import click
import httpx

TIE = 0.05  # of a log-probability: two tokens that near may change places with what is decided beside them


class Said(NamedTuple):
    tokens: tuple[str, ...]
    best: tuple[Mapping[str, float], ...]  # of each place, the likeliest tokens


class Desk:
    """An operator who also asks."""

    def __init__(self, http: httpx.AsyncClient, tokens: int) -> None:
        self._http = http
        self._tokens = tokens
        self.base = ""

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self._http.post(f"/v1/{path}", json=body)
        if answer.status_code != 200:
            raise click.ClickException(f"{path}: {answer.status_code} {answer.text}")
        told: dict[str, Any] = answer.json()
        return told

    async def add(self, name: str, *, load: bool = False) -> str:
        """The reference of the folder of this name in the inbox."""
        reference = str((await self.post("adapters", name=name, inbox=name))["id"])
        if load:
            await self.post(f"adapters/{reference}/load")
        return reference

    async def metrics(self, name: str) -> dict[str, float]:
        """The samples of a metric, by what follows its name."""
        lines = (await self._http.get("/metrics")).text.splitlines()
        samples = (line.removeprefix(name).rpartition(" ") for line in lines if line.startswith(name))
        return {label: float(value) for label, _, value in samples}

    async def body(self, model: str | None, prompt: str) -> dict[str, Any]:
        if not self.base:
            self.base = (await self._http.get("/v1/models")).json()["data"][0]["id"]
        name = self.base if model is None else f"{self.base}:{model}" if "@" in model else model
        messages = [{"role": "user", "content": prompt}]
        limits = {"max_tokens": self._tokens, "temperature": 0, "ignore_eos": True}
        return {"model": name, "messages": messages, **limits}

    async def say(self, model: str | None, prompt: str) -> Said:
        body = await self.body(model, prompt) | {"logprobs": True, "top_logprobs": 3}
        answer = await self._http.post("/v1/chat/completions", json=body)
        if answer.status_code != 200:
            raise click.ClickException(f"{answer.status_code} {answer.text}")
        content = answer.json()["choices"][0]["logprobs"]["content"]
        best = ({top["token"]: top["logprob"] for top in one["top_logprobs"]} for one in content)
        return Said(tuple(one["token"] for one in content), tuple(best))

    async def stream(self, model: str | None, prompt: str, tokens: int) -> list[float]:
        """When each piece of text came, time.perf_counter()."""
        times = []
        body = await self.body(model, prompt) | {"stream": True, "max_tokens": tokens}
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as lines:
            async for line in lines.aiter_lines():
                if line.startswith('data: {"') and '"content":"' in line:
                    times.append(time.perf_counter())
        return times


def same(said: Said, wanted: Said, tie: float = TIE) -> bool:
    """Whether the answers are one, or part only where two tokens are nearly as probable."""
    for token, other, best, before in zip(said.tokens, wanted.tokens, said.best, wanted.best, strict=False):
        if token != other:
            return token in before and other in best and abs(before[token] - before[other]) < tie
    return True
