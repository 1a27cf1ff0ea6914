"""The command ``padim-ace``. Errors are one line, the exit code then is 1, for wrong arguments 2."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
EXAMPLES = """\b
Examples:
  padim-ace fit sea.tif -o ship.pt
  padim-ace fit sea.tif --anomalous sea.geojson --zoom 2 -o ship.pt
  padim-ace fit chips/normal --anomalous chips/ships --scale log -o ship.pt
  padim-ace detect ship.pt scenes/ --pfa 1e-6 -o found
  padim-ace detect ship.pt harbour.tif --fit-on-scene -o found
  padim-ace info ship.pt"""


def option(*names: str, **settings: Any) -> Callable:
    """An option that shows its default."""
    return click.option(*names, show_default=True, **settings)


def computing(command: Callable) -> Callable:
    """The options of what computes."""
    side = "Side of a window, in pixels that the network sees: it decides memory, not results."
    command = option("--window", default=1536, type=click.IntRange(256), help=side)(command)
    command = option("--device", default="cpu", help="Of torch, such as cuda.")(command)
    return option("--band", help="Number, from 1, or name; by default the first, or the model's.")(command)


@click.group(epilog=EXAMPLES)
@click.version_option(package_name="padim-ace")
def group() -> None:
    """Find what does not belong in SAR scenes of any size."""
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


@group.command(epilog=EXAMPLES)
@click.argument("normal", nargs=-1, required=True, type=PATH)
@option("-o", "--out", required=True, type=PATH, help="The model's file.")
@option("--anomalous", multiple=True, type=PATH, help="Images of targets, or GeoJSON of a NORMAL's targets.")
@option("--scale", default="linear", type=click.Choice(["linear", "log", "db"]), help="db: in decibels.")
@option("--backbone", default="tf_efficientnet_lite0", help="A convolutional network of timm.")
@option("--zoom", default=1, type=int, help="1, 2 or 4: for targets of a few pixels.")
@computing
def fit(out: Path, backbone: str, zoom: int, **given: Any) -> None:
    """Fit a model to NORMAL scenes or chips, files and folders."""
    from padim_ace import scene

    scene.fit(given.pop("normal"), out, options=scene.Options(backbone, zoom=zoom), **given)
    _say(out)


@group.command(epilog=EXAMPLES)
@click.argument("model", type=PATH)
@click.argument("scenes", nargs=-1, required=True, type=PATH)
@option("-o", "--out", required=True, type=PATH, help="The folder for what is found.")
@option("--pfa", default=1e-5, help="False alarms per patch of background.")
@option("--threshold", type=float, help="Of the score, in place of --pfa.")
@option("--fit-on-scene", is_flag=True, help="Each scene is its own background, as for RX: for few targets.")
@computing
def detect(model: Path, scenes: tuple[Path, ...], out: Path, **given: Any) -> None:
    """Find targets in SCENES, files and folders, with a MODEL.

    Of each, NAME.score.tif, NAME.geojson and NAME.png are written; scenes that are done are skipped.
    """
    from padim_ace import scene
    from padim_ace.scene.fitting import files

    fitted, failed, paths = scene.SceneModel.load(model, given.pop("device")), 0, files(scenes)
    if twice := {path.stem for path in paths if [p.stem for p in paths].count(path.stem) > 1}:
        raise scene.SceneError(f"scenes: expected names that differ, found {min(twice)} twice; rename one")
    for path in paths:
        try:
            found = scene.detect(fitted, path, out, **given)
            click.echo(f"{path}: {len(found['features'])} detections")
        except (ValueError, OSError) as error:
            failed += _failed(error)
    sys.exit(min(failed, 1))


@group.command(epilog=EXAMPLES)
@click.argument("file", type=PATH)
def info(file: Path) -> None:
    """Say what a model or a scene is."""
    _say(file)


def _say(path: Path) -> None:
    from padim_ace.scene import info

    for name, value in info(path).items():
        click.echo(f"{name:16}  {value}")


def _failed(error: BaseException, code: int = 1) -> int:
    said = error.format_message() if isinstance(error, click.ClickException) else error.__cause__ or error
    click.echo(f"error: {' '.join(str(said).split())}", err=True)
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0, or another number after a one-line error."""
    try:
        group.main(arguments, prog_name="padim-ace", standalone_mode=False)
    except click.ClickException as error:
        return _failed(error, 2)
    except (ValueError, OSError, RuntimeError) as error:
        return _failed(error)
    except SystemExit as done:
        return int(done.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
