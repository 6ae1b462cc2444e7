"""The functions of a repository's on-demand views and transforms, and whether they are the applied ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from asof.definitions import LogSource, OnDemandFeatureView, Source
from asof.definitions.base import Definition
from asof.definitions.identity import KnownFunction, what_differs
from asof.definitions.project import Project
from asof.definitions.transforms import MessageTransform
from asof.errors import FunctionChanged, NotFound
from asof.repository.files import collect, functions_of
from asof.selection import Selection


@dataclass(frozen=True)
class FunctionMismatch:
    """How the function of a view or source differs from the applied one.

    Args:
        meaning: what differs in it, as text; empty if it means the same.
        packages: packages whose installed version differs, as text.
    """

    title: str
    meaning: tuple[str, ...]
    packages: tuple[str, ...]


class Repository:
    """A repository's definitions as last loaded, for their functions, which no registry stores.

    Args:
        root: the folder with the Python files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._views: dict[str, OnDemandFeatureView] = {}
        self._sources: dict[str, Source] = {}
        self._given: set[str] = set()

    def definitions(self) -> Project:
        """Load the files again and return their definitions; raises as `collect`."""
        project = collect(self.root)
        self._given -= set(project.on_demand_views)
        return self.remember(project)

    def remember(self, project: Project) -> Project:
        """Keep the functions of these definitions."""
        self._views |= project.on_demand_views
        self._sources |= project.sources
        return project

    def remember_given(self, project: Project) -> Project:
        """Keep the functions of definitions that are objects of this process, whatever file they are from.

        Their constants may be replaced while they are in use.
        """
        for code in functions_of(project):
            code.settle(self.root)
        self._given |= set(project.on_demand_views)
        return self.remember(project)

    def check_given(self, selection: Selection) -> None:
        """Whether the functions that were given as objects still are as they were applied.

        Raises:
            FunctionChanged: one is not.
        """
        for each in selection.derivations:
            own = self._views.get(each.view.name)
            if own is not None and each.view.name in self._given:
                own.code.look_again()
                self._refuse_changed(own, each.view)

    def differences(self, project: Project) -> list[FunctionMismatch]:
        """Where functions here differ from those of an applied project; of files that were read, none is read again."""
        pairs: list[tuple[Definition, KnownFunction, KnownFunction]] = []
        for name, view in project.on_demand_views.items():
            if name in self._views:
                pairs.append((view, self._views[name].code, view.code))
        for name, source in project.sources.items():
            own = self._transform(name)
            if own is not None and isinstance(source, LogSource) and source.transform is not None:
                pairs.append((source, own.code, source.transform.code))
        return [
            FunctionMismatch(f"{each.kind} {each.name!r}", tuple(meaning), tuple(packages))
            for each, own_code, applied in pairs
            if (meaning := own_code.differences(applied)) + (packages := own_code.package_differences(applied))
        ]

    def transform_of(self, source: LogSource) -> MessageTransform | None:
        """The transform of a source with its function; None where the repository has none."""
        own = self._transform(source.name)
        if own is None or (source.transform is not None and own.differences(source.transform)):
            # Another process may have applied it since the files were loaded.
            self.definitions()
            own = self._transform(source.name)
        return own

    def _transform(self, name: str) -> MessageTransform | None:
        source = self._sources.get(name)
        return source.transform if isinstance(source, LogSource) else None

    def with_functions(self, selection: Selection) -> Selection:
        """A copy of the selection with the functions of its on-demand views, which must be the applied ones.

        Raises:
            NotFound, FunctionChanged: the repository lacks a function, or has a different one.
        """
        if not selection.derivations:
            return selection
        made = [replace(each, view=self._with_function(each.view)) for each in selection.derivations]
        return replace(selection, derivations=tuple(made))

    def _with_function(self, view: OnDemandFeatureView) -> OnDemandFeatureView:
        own = self._views.get(view.name)
        if own is None or own.code.differences(view.code):
            # Another process may have applied it since the files were loaded.
            self.definitions()
            own = self._views.get(view.name)
        if own is None or own.function is None:
            raise NotFound(
                f"on-demand feature view {view.name!r} is applied, but the repository at {self.root} no longer "
                "defines it",
                hint="run `asof apply`, or restore its file",
                where=view.where,
            )
        self._refuse_changed(own, view)
        return view.with_function(own.function)

    def _refuse_changed(self, own: OnDemandFeatureView, applied: OnDemandFeatureView) -> None:
        if differences := own.code.differences(applied.code):
            raise FunctionChanged(
                f"the function of on-demand feature view {applied.name!r} differs from the applied one: "
                f"{what_differs(differences)}",
                hint="run `asof apply`, or update the files here",
                where=own.where,
            )


__all__ = ["FunctionMismatch", "Repository"]
