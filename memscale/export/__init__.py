"""Export of trained models to Hugging Face folders: configuration, weights and tokenizer."""
