"""What makes a formula fast: one file an operation, which opens with the formula as a plain function."""
