"""The commands of the command line, one module each, and what they share.

A command's module has `add_parser`, which describes it to argparse, and `run`, which does it and returns the exit code.
"""
