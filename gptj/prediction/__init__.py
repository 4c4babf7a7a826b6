"""Predictions of the two heads that do not generate: classes and answers, on every backend."""
