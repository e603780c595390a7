"""Judging arms: tests that stay valid however often one looks, and what they need.

Opened lazily: numpy and scipy are imported here, and no request waits for them.
"""
