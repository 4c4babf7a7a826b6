"""Whole checkpoints: from one form to another, from nothing, and what is in them."""
