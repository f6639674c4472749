"""Engines that run the stages: loops, processes, resuming; no logic of their own."""
