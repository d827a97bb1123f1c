"""Parts of SequenceForecaster that stand on their own."""
