"""`asof init`: a small feature repository to begin with."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import LOCAL_PATH, Command
from asof.errors import RepositoryError
from asof.timing import SECOND, floor_to, iso, micros

FILES = {"feature_store.yaml": "feature_store.yaml", "features.py": "features.py", "gitignore": ".gitignore"}
"""File of the template → its name in the repository."""


@click.command(cls=Command)
@click.argument("folder", type=LOCAL_PATH, default=".")
@click.option("--project", metavar="NAME", help="The project's name. [default: the folder's]")
@pass_context
def init(context: CliContext, folder: str, project: str | None) -> None:
    """Write a small feature repository to begin with.

    It works as it is, with embedded stores: no server is needed. Existing files are never replaced.
    """
    target = (context.repo or Path(".")) / folder
    written = write_starter(target, project=project or project_name(target))
    now = iso(floor_to(micros(datetime.now(UTC)), SECOND))
    steps = [
        *([] if folder == "." else [f"cd {target}"]),
        "asof apply",
        f"""asof push visits '{{"user_id": 7, "page": "home", "seconds": 12.5, "visited_at": "{now}"}}'""",
        "asof get online --service visit_model --key user_id=7",
    ]
    context.output.lines(
        "written",
        [*(f"Wrote {path}" for path in written), "Now try:", *(f"  {step}" for step in steps)],
        [str(path) for path in written],
    )


def write_starter(folder: Path, *, project: str) -> list[Path]:
    """Write the starter repository, which works as it is; return its files.

    Raises:
        RepositoryError: one of its files is there already; nothing was written.
    """
    from importlib.resources import files  # not needed for `asof --help`

    template = files("asof.cli").joinpath("template")
    there = [name for name in FILES.values() if name != ".gitignore" and (folder / name).exists()]
    if there:
        raise RepositoryError(
            f"{folder} has a feature repository already: {', '.join(there)}",
            hint="name another folder, as in `asof init shop`",
        )
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for source, name in FILES.items():
        path = folder / name
        if not path.exists():
            text = template.joinpath(source).read_text(encoding="utf-8")
            path.write_text(text.replace("my_project", project), encoding="utf-8")
            written.append(path)
    return written


def project_name(folder: Path) -> str:
    """A project name made of the folder's."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    return name if name and name[0].isalpha() else "my_project"
