"""SequenceTranslator: encoder-decoder networks. See `lstmcore.SequenceTranslator`."""
