"""Ranking documents by a cross-encoder, beside others."""
