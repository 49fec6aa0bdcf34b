"""The front door: the command line, and the pipeline from a search to its report."""

__version__ = "0.1.0"
