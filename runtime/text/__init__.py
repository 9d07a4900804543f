"""From words to embeddings: tokenizing and text encoding."""
