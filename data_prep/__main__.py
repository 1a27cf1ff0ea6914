"""Command line: `python -m data_prep DATASET --raw … --out … [name=value …]`, `… unpack ARCHIVE FOLDER`."""

import argparse
import ast
import dataclasses
import sys
from pathlib import Path
from typing import Any

from data_prep import DATASETS, DataError, prepare
from data_prep.archives import unpack


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected name=value, found {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0, or 1 after a one-line error."""
    parser = argparse.ArgumentParser(prog="python -m data_prep", description="Prepare a SAR dataset.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="DATASET | unpack")
    for name, kind in DATASETS.items():
        command = commands.add_parser(name, help=f"prepare {name}")
        command.add_argument(
            "--raw", type=Path, help="the raw release (simulated datasets: where to simulate)"
        )
        command.add_argument("--out", type=Path, required=True, help="the prepared dataset")
        command.add_argument("--seed", type=int, default=0, help="decides fill and simulation (default: 0)")
        command.add_argument("--processes", type=int, default=1, help="worker processes (default: 1)")
        fields = ", ".join(field.name for field in dataclasses.fields(kind.parameters))
        command.add_argument("settings", nargs="*", type=_setting, help=f"name=value of: {fields}")
    command = commands.add_parser("unpack", help="unpack a downloaded zip, tar or rar safely")
    command.add_argument("archive", type=Path)
    command.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "unpack":
            print(f"{len(unpack(options.archive, options.folder))} files in {options.folder}")
        else:
            settings = dict(options.settings)
            out = prepare(
                options.command,
                options.raw,
                options.out,
                seed=options.seed,
                processes=options.processes,
                **settings,
            )
            print(out)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
