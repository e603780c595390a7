"""What one key may use: requests and tokens a minute, requests at once. Refused before any engine work.

Token buckets: full they hold a minute's worth, and they refill steadily. Tokens are reserved by an upper
bound before the engine sees the prompt and settled by what was really used, so a bucket may fall below empty,
by no more than the bounds were too low; whoever comes next waits until it has filled again. A request larger
than the whole bucket needs a full one.

All of it runs on the event loop of one process: no locks, and each replica counts for itself.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from server.errors import RateLimited

Clock = Callable[[], float]
Kind = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Rates:
    """None: not said, the next in line decides; 0: without limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    def over(self, default: "Rates") -> "Rates":
        """These, and where they say nothing the default's."""

        def first(own: int | None, other: int | None) -> int | None:
            return other if own is None else own

        return Rates(
            first(self.requests_per_minute, default.requests_per_minute),
            first(self.tokens_per_minute, default.tokens_per_minute),
            first(self.concurrent, default.concurrent),
        )


UNSAID = Rates()


class Bucket:
    """`size` units when full, refilled within a minute."""

    def __init__(self, size: int, clock: Clock) -> None:
        self.size = size
        self._clock = clock
        self._level = float(size)
        self._at = clock()

    @property
    def level(self) -> float:
        now = self._clock()
        self._level = min(self._level + (now - self._at) * self.size / 60, float(self.size))
        self._at = now
        return self._level

    def seconds_until(self, amount: float) -> float:
        """How long until that much is there; more than the whole means: until it is full."""
        return max(min(amount, self.size) - self.level, 0.0) * 60 / self.size

    def take(self, amount: float) -> None:
        self._level = self.level - amount

    def give_back(self, amount: float) -> None:
        self._level = min(self.level + amount, float(self.size))


@dataclass(frozen=True, slots=True)
class Standing:
    """What a bucket holds: the x-ratelimit-* headers say it."""

    limit: int
    remaining: int
    reset_seconds: float  # until it is full


class Account:
    """One key's buckets."""

    asked = UNSAID  # what `rates` were made of, by the default

    def __init__(self, rates: Rates, clock: Clock) -> None:
        self.rates = rates
        self.inside = 0
        self.buckets: dict[Kind, Bucket] = {}
        if rates.requests_per_minute:
            self.buckets["requests"] = Bucket(rates.requests_per_minute, clock)
        if rates.tokens_per_minute:
            self.buckets["tokens"] = Bucket(rates.tokens_per_minute, clock)


class Allowance:
    """What one request was granted; `settle` once it has ended, however that was."""

    def __init__(self, account: Account, tokens: int) -> None:
        self._account = account
        self._tokens = tokens
        self._open = True

    def expect(self, tokens: int) -> None:
        """Another upper bound, now that the prompt is known. Never refuses."""
        if self._open:
            self._correct(tokens)

    def settle(self, tokens: int) -> None:
        """The tokens really used. Harmless a second time."""
        if self._open:
            self._open = False
            self._account.inside -= 1
            self._correct(tokens)

    def cancel(self) -> None:
        """The request was refused for the server's load: it counts for nothing."""
        if self._open:
            self.settle(0)
            if requests := self._account.buckets.get("requests"):
                requests.give_back(1)

    def standings(self) -> Mapping[Kind, Standing]:
        return _standings(self._account)

    def _correct(self, tokens: int) -> None:
        if bucket := self._account.buckets.get("tokens"):
            if tokens > self._tokens:
                bucket.take(tokens - self._tokens)
            else:
                bucket.give_back(self._tokens - tokens)
        self._tokens = tokens


class Quotas:
    """The accounts of all keys, opened at their first request."""

    def __init__(self, default: Rates = UNSAID, *, clock: Clock = time.monotonic) -> None:
        self._default = default
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def take(self, key: str, rates: Rates, *, tokens: int) -> Allowance:
        """Leave for one request that uses at most about `tokens`. `key` is the key's prefix.

        Raises RateLimited with the seconds after which it would be granted.
        """
        account = self._account(key, rates)
        most = account.rates.concurrent
        if most and account.inside >= most:
            raise RateLimited(
                f"this key has {account.inside} requests at work, and may have {most} at once; wait for one",
                retry_after_seconds=1,
            )
        wanted: dict[Kind, int] = {"requests": 1, "tokens": tokens}
        for kind, bucket in account.buckets.items():
            if wait := bucket.seconds_until(wanted[kind]):
                raise RateLimited(
                    f"this key may use {bucket.size} {kind} a minute; {max(int(bucket.level), 0)} are left "
                    f"and this request needs {min(wanted[kind], bucket.size)}. Try again in {wait:.1f} s",
                    retry_after_seconds=wait,
                )
        for kind, bucket in account.buckets.items():
            bucket.take(wanted[kind])
        account.inside += 1
        return Allowance(account, tokens)

    def standings(self, key: str, rates: Rates) -> Mapping[Kind, Standing]:
        return _standings(self._account(key, rates))

    def _account(self, key: str, rates: Rates) -> Account:
        account = self._accounts.get(key)
        if account is None or account.asked != rates:
            wanted = rates.over(self._default)
            if account is None or account.rates != wanted:
                account = self._accounts[key] = Account(wanted, self._clock)
            account.asked = rates
        return account


def _standings(account: Account) -> Mapping[Kind, Standing]:
    return {
        kind: Standing(bucket.size, max(int(bucket.level), 0), bucket.seconds_until(bucket.size))
        for kind, bucket in account.buckets.items()
    }
