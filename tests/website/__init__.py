"""The site, built from docs/ and from the docstrings, and walked: `python -m tests.website --help`."""
