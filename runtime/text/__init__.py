"""From words to embeddings: prompt language, tokenizing and text encoding."""
