"""Scoring: how likely a model finds given texts, token by token; the same on every backend."""
