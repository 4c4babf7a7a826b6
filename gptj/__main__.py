"""``python -m gptj``."""

from gptj.cli import main

main(prog_name="gptj")
