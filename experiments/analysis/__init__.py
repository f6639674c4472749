"""Measurements of trained runs that several commands and notebooks print."""
