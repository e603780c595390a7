"""Ranges of reserved ids: taken whole, given back, never shared."""

from collections.abc import Sequence


class BankFull(Exception):
    """No run of ids is long enough."""

    def __init__(self, free: int) -> None:
        super().__init__(f"{free} ids are free")
        self.free = free


class Bank:
    """The ids from `first` on, `count` of them. Who takes some has them until they are given back."""

    def __init__(self, first: int, count: int) -> None:
        self._free = [(first, first + count)] if count else []

    def take(self, count: int) -> tuple[int, ...]:
        """Consecutive ids: the shortest free run that holds them. Raises BankFull."""
        fitting = [run for run in self._free if run[1] - run[0] >= count]
        if count < 1 or not fitting:
            raise BankFull(sum(stop - start for start, stop in self._free))
        start, stop = min(fitting, key=lambda run: run[1] - run[0])
        self._free.remove((start, stop))
        if start + count < stop:
            self._free.append((start + count, stop))
        return tuple(range(start, start + count))

    def give_back(self, ids: Sequence[int]) -> None:
        runs = sorted([*self._free, (ids[0], ids[-1] + 1)])
        joined = runs[:1]
        for start, stop in runs[1:]:
            if start < joined[-1][1]:
                raise ValueError(f"id {start} was given back twice")
            if start == joined[-1][1]:
                joined[-1] = (joined[-1][0], stop)
            else:
                joined.append((start, stop))
        self._free = joined
