"""The self-test's rows: simulated experiments, judged by the functions that judge real ones."""
