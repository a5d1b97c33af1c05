"""Wiring: what runs on what."""
