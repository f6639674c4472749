"""Stores of serving: user states, and an index of past behaviors."""
