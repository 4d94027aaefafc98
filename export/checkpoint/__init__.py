"""What is read: checkpoints of Hugging Face, sentence-transformers and Google."""
