"""What the engine is started with, and what vLLM reads from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path

from server.orphan import OWNER

# Launch settings of vLLM's LoRA kernels by card, found by `python -m bench lora_tune` (decision 0209).
LORA_KERNELS = Path(__file__).parent / "lora_kernels"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What the engine is started with. None means: what is right for this machine (performance.md §6)."""

    model: str  # folder or hub id
    context_tokens: int
    batch: int
    dtype: str = "auto"
    kv_cache_bytes: int | None = None
    block_tokens: int | None = None
    eager: bool | None = None
    gpu_memory_share: float = 0.8
    tool_parser: str | None = None  # name of one of vLLM's
    max_loras: int = 0  # in one batch; 0: no LoRA
    max_lora_rank: int = 16
    live_loras: int | None = None  # in memory
    soft_rows: int = 0  # tokens of all soft prompts that are loaded
    prefix_rows: int = 0  # tokens of all prefixes that are loaded
    rows_cache: str = ""  # folder for copies of models with room for them
    full_models: int = 0  # engines beside this one, for models with weights of their own
    full_kv_cache_bytes: int = 2**30  # of each of them
    merged_cache: str = ""  # folder for copies of the model with other weights
    hooked: bool = False  # blocks get hooks, which compiled code would not run
    coalesce_seconds: float = 0.02  # a visible token waits no longer than this, or than one step
    metrics: bool = True  # vLLM's own: of one engine of a process, for a second one takes their place
    guard_lora: bool = True  # off only to prove that the self-test finds the fault

    @property
    def loras_in_memory(self) -> int:
        return max(self.live_loras or 4 * self.max_loras, self.max_loras)

    @property
    def extended(self) -> bool:
        """Whether the workers need our methods."""
        return bool(self.max_loras or self.reserved_rows or self.full_models or self.hooked)

    @property
    def reserved_rows(self) -> int:
        return self.soft_rows + self.prefix_rows


def set_environment(options: EngineOptions) -> None:
    """Set what vLLM and its child processes read from the environment, unless the operator has."""
    for name, value in defaults(options).items():
        os.environ.setdefault(name, value)
    os.environ[OWNER] = str(os.getpid())


def defaults(options: EngineOptions) -> dict[str, str]:
    """Variables and what they are set to where the operator has not."""
    cores = sorted(os.sched_getaffinity(0))
    found = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        # What `vllm serve` sets, and vLLM itself on a processor; else it forks a process of many threads.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "PYTHONWARNINGS": "ignore",  # of the engine's own processes: theirs to mend, noise to an operator
        "TOKENIZERS_PARALLELISM": "false",
    }
    if os.path.isdir(options.model):
        found["HF_HUB_OFFLINE"] = "1"
    if options.max_loras:
        found["VLLM_TUNED_CONFIG_FOLDER"] = str(LORA_KERNELS)  # a card that is not there has vLLM's default
    if len(cores) <= 2:
        # vLLM keeps one core for itself; on two that leaves one thread: 1.5 times slower when measured.
        found["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    return found
