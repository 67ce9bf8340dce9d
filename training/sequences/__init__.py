"""Learning from whole filmed sequences, as in the paper: chunks, labelled and unlabelled batches, back-projection."""
