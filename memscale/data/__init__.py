"""Corpora, tokenizer, packed token files, deterministic sampling."""
