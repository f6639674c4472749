"""Workloads, cases, worker processes and report of `experiments.benchmark`."""
