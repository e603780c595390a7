"""vLLM's engine core without a model: on its sockets and in its words, one token a step for whoever runs.

    python -m bench.front.core --input ipc://IN --output ipc://OUT --step SECONDS --batch N --tokenizer DIR

Everything above it is vLLM's own and real: AsyncLLM, its client with the process boundary, its detokeniser,
its collectors and metrics. What it sends is encoded as the real core encodes it, with the same statistics.
Steps take their time whether or not anybody keeps up, as a card's do.
"""

import itertools
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

RANK = (0).to_bytes(2, "little")  # vLLM's identity of its only engine
SERVED = ("generate",)


class Core:
    """What runs and what waits; `step` makes one message of outputs."""

    def __init__(self, ids: Sequence[int], batch: int) -> None:
        self._ids = itertools.cycle(ids)
        self._batch = batch
        self._running: dict[str, list[int]] = {}  # request → tokens told, tokens wanted
        self._waiting: dict[str, Any] = {}

    @property
    def idle(self) -> bool:
        return not self._running and not self._waiting

    def add(self, request: Any) -> None:
        self._waiting[request.request_id] = request

    def abort(self, request_ids: Sequence[str]) -> None:
        for request_id in request_ids:
            self._running.pop(request_id, None)
            self._waiting.pop(request_id, None)

    def step(self) -> Any:
        """vLLM's EngineCoreOutputs: a token for every running request, the first one for newcomers."""
        from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
        from vllm.v1.metrics.stats import SchedulerStats

        outputs = []
        for request_id, progress in list(self._running.items()):
            progress[0] += 1
            ends = progress[0] >= progress[1]
            reason = FinishReason.LENGTH if ends else None
            outputs.append(EngineCoreOutput(request_id, [next(self._ids)], finish_reason=reason))
            if ends:
                del self._running[request_id]
        for request in list(itertools.islice(self._waiting.values(), self._batch - len(self._running))):
            del self._waiting[request.request_id]
            outputs.append(self._begin(request))
        stats = SchedulerStats(num_running_reqs=len(self._running), num_waiting_reqs=len(self._waiting))
        return EngineCoreOutputs(outputs=outputs, scheduler_stats=stats, timestamp=time.monotonic())

    def _begin(self, request: Any) -> Any:
        from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, EngineCoreOutput, FinishReason
        from vllm.v1.metrics.stats import PrefillStats

        wanted = request.sampling_params.max_tokens
        if wanted > 1:
            self._running[request.request_id] = [1, wanted]
        prompt = len(request.prompt_token_ids)
        return EngineCoreOutput(
            request.request_id,
            [next(self._ids)],
            finish_reason=FinishReason.LENGTH if wanted == 1 else None,
            events=[
                EngineCoreEvent.new_event(EngineCoreEventType.QUEUED),
                EngineCoreEvent.new_event(EngineCoreEventType.SCHEDULED),
            ],
            prefill_stats=PrefillStats(num_prompt_tokens=prompt, num_computed_tokens=prompt),
        )


def serve(core: Core, receiving: str, sending: str, step_seconds: float) -> None:
    """Until the process that started this one has ended."""
    import zmq
    from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest, EngineCoreRequestType, UtilityOutput
    from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder, UtilityResult

    context = zmq.Context()
    asked = context.socket(zmq.DEALER)
    asked.setsockopt(zmq.IDENTITY, RANK)
    asked.connect(receiving)
    told = context.socket(zmq.PUSH)
    told.connect(sending)
    asked.send(b"")  # ready, and nothing to add to the configuration
    requests, anything, encoder = MsgpackDecoder(EngineCoreRequest), MsgpackDecoder(), MsgpackEncoder()
    parent, due = os.getppid(), time.monotonic()
    while os.getppid() == parent:
        wait = 1.0 if core.idle else max(due - time.monotonic(), 0)
        if asked.poll(math.ceil(wait * 1e3)):
            kind, *frames = asked.recv_multipart()
            match EngineCoreRequestType(kind):
                case EngineCoreRequestType.ADD:
                    core.add(requests.decode(frames))
                case EngineCoreRequestType.ABORT:
                    core.abort(anything.decode(frames))
                case EngineCoreRequestType.UTILITY:
                    _, call, method, _ = anything.decode(frames)
                    found = SERVED if method == "get_supported_tasks" else None
                    said = UtilityOutput(call, result=UtilityResult(found))
                    told.send_multipart(encoder.encode(EngineCoreOutputs(utility_output=said)))
        if not core.idle and time.monotonic() >= due:
            due = max(due, time.monotonic() - step_seconds) + step_seconds
            told.send_multipart(encoder.encode(core.step()))


@click.command()
@click.option("--input", "receiving", required=True)
@click.option("--output", "sending", required=True)
@click.option("--step", "step_seconds", type=float, required=True)
@click.option("--batch", type=int, required=True)
@click.option("--tokenizer", type=click.Path(path_type=Path), required=True)
def main(receiving: str, sending: str, step_seconds: float, batch: int, tokenizer: Path) -> None:
    """Serve until the parent ends."""
    from bench.gpu.shapes import sayable

    serve(Core(sayable(tokenizer, 2**31), batch), receiving, sending, step_seconds)


if __name__ == "__main__":
    main()
