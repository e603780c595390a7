"""`python -m training METHOD …`: `fewshot train` on a machine that has nothing of the server installed."""

from training.commands import train

train(prog_name="python -m training")
