"""Write constraints.txt: every package of .venv with its version. Run by `make lock`."""

from importlib.metadata import distributions
from pathlib import Path

from data_prep.files import write_atomic

OURS = {"padim-ace", "pip"}
HEAD = """\
# Every package of the environment, with the version everything here was run with (Python 3.11, Linux x86-64).
# `make lock` writes this file from .venv. pip installs none of these because they are listed: it only holds
# what pyproject.toml asks for to these versions, so the entries for one platform do no harm on another.
"""

if __name__ == "__main__":
    found = {dist.metadata["Name"]: dist.version for dist in distributions()}
    lines = [f"{name}=={found[name]}\n" for name in sorted(found, key=str.lower) if name.lower() not in OURS]
    constraints = Path(__file__).resolve().parents[1] / "constraints.txt"
    write_atomic(constraints, (HEAD + "".join(lines)).encode())
