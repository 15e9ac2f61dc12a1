"""Data: sources of documents, tokenizer, packed token files, and deterministic sampling of batches."""
