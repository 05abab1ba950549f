"""Benchmarks: the engine, the limit of wire and COPY, and what a user would pick instead, side by side in one run."""
