"""A trained model as other programs read it: a Hugging Face folder of configuration, weights and tokenizer."""
