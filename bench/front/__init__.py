"""What vLLM's own front end and ours cost a token, over an engine core that computes nothing."""
