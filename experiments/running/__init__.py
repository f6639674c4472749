"""Runs of configs: settings, seeds, trained models, exports and the stores that commands open."""
