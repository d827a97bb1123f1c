"""Language models: the next symbol of a text, and texts made up symbol by symbol."""
