"""Tables of the papers with our results beside theirs."""
