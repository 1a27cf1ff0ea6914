"""Command line: `python -m data_prep DATASET --out …`, `… unpack ARCHIVE FOLDER`; `--help` says the rest."""

import sys
import typing
from pathlib import Path
from typing import Any

import click
from pydantic.fields import FieldInfo

from data_prep import DATASETS, DataError, Dataset, prepare
from data_prep.archives import unpack
from data_prep.dataset import Run

LIMITS = {"Ge": "at least", "Gt": "above", "Le": "at most", "Lt": "below"}
FOLDER = click.Path(path_type=Path, file_okay=False)


def _option(name: str, field: FieldInfo, default: Any) -> click.Option:
    """The option of a field: its words, its range and its default; `prepare` checks its value."""
    dashed, parts = f"--{name.replace('_', '-')}", typing.get_args(field.annotation)
    bounds = [(type(bound).__name__, bound) for bound in field.metadata]
    limits = [f"{LIMITS[kind]} {getattr(of, kind.lower()):g}" for kind, of in bounds if kind in LIMITS]
    said = f"{field.description} ({', '.join([*limits, f'default: {default}'.lower()])})"
    if field.annotation is bool:
        return click.Option([dashed], is_flag=True, default=None, help=said)
    if typing.get_origin(field.annotation) is typing.Literal:
        return click.Option([dashed], type=click.Choice(parts), help=said)
    kinds = [getattr(part, "__name__", "") for part in parts or [field.annotation]]
    return click.Option([dashed], help=said, metavar="|".join(kinds).replace("NoneType", "none"))


def _command(name: str, dataset: Dataset) -> click.Command:
    def run(raw: Path | None, out: Path, **values: Any) -> None:
        given = {key: value for key, value in values.items() if value is not None}
        given |= {key: None for key, value in given.items() if value == "none" and key in optional}
        click.echo(prepare(name, raw, out, **given))

    where = dataset.layout + " (default: in $PADIM_ACE_DATA)" * bool(dataset.folder)
    raw = click.Option(["--raw"], type=FOLDER, help=where or "where to simulate (default: beside --out)")
    out = click.Option(["--out"], type=FOLDER, required=True, help="the prepared dataset")
    fields = {**Run.model_fields, **dataset.parameters.model_fields}.items()
    optional = {key for key, field in fields if type(None) in typing.get_args(field.annotation)}
    options = [_option(key, field, dataset.defaults.get(key, field.default)) for key, field in fields]
    about = [f"Prepare {dataset.title}.", dataset.site and f"To get: {dataset.files}, from {dataset.site}."]
    about.append(dataset.licence and f"Licence: {dataset.licence}.")
    said = "\n\n".join(filter(None, about))
    return click.Command(name, params=[raw, out, *options], callback=run, help=said)


@click.command
@click.argument("archive", type=click.Path(path_type=Path))
@click.argument("folder", type=FOLDER)
def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a downloaded zip, tar or rar safely."""
    click.echo(f"{len(unpack(archive, folder))} files in {folder}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0, or another number after a one-line error."""
    commands = {name: _command(name, dataset) for name, dataset in DATASETS.items()} | {"unpack": _unpack}
    group = click.Group("data_prep", commands, help="Prepare a SAR dataset, or unpack an archive of one.")
    try:
        group.main(arguments, prog_name="python -m data_prep", standalone_mode=False)
    except DataError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except click.ClickException as error:
        click.echo(f"error: {error.format_message()}", err=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
