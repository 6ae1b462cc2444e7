"""The verbs of `FeatureStore` that back a store up, and bring it back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from asof.errors import Argument, RequestError
from asof.flows.stores import Progress, silent
from asof.store_reports import StoreReports

if TYPE_CHECKING:
    from asof.flows.admin.backup.backup import BackupResult
    from asof.flows.admin.backup.restore import RestoreResult


class StoreBackups(StoreReports):
    """Backs up what cannot be computed again: the registry with its history, archives and training sets."""

    def backup(
        self, target: str | Path, *, archives: Literal["copy", "refer"] = "copy", progress: Progress = silent
    ) -> BackupResult:  # fmt: skip
        """Write a backup, while workers and servers go on; it appears as a whole, or not at all.

        Rows that this process pushed are archived first. Online rows are not in it, as they are built from the
        archives; logs and the files and tables of sources are referred to.

        Args:
            target: a folder that does not exist or is empty, or an address such as `s3://bucket/backups/monday`.
            archives: `copy` their rows, or `refer` to them by their offsets, where they are kept safe otherwise.

        Raises:
            RequestError: `archives` is neither.
            RegistryError: nothing is applied.
            StorageError: there is something at the target, or it cannot be written.
        """
        from asof.flows.admin.backup.backup import backup

        if archives not in ("copy", "refer"):
            name = Argument("archives", archives)
            raise RequestError(f"{name} is not known", hint="choose copy or refer", arguments=[name])
        self._applied.pushers.flush()
        config = self._applied.config
        products = {
            "registry": config.registry.type, "offline_store": config.offline_store.type,
            "online_store": config.online_store.type, "log": config.log.type,
        }  # fmt: skip
        return backup(
            self._applied.stores, target, stores_of=products, copy_archives=archives == "copy", progress=progress
        )  # fmt: skip

    def restore(self, source: str | Path, *, replace: bool = False, progress: Progress = silent) -> RestoreResult:
        """Bring a project back from a backup, into the stores of this configuration, whatever their products.

        Each file is compared with its hash before anything is changed. Stop workers and servers before.

        Args:
            source: where `backup` wrote it.
            replace: drop what the project has.

        Returns:
            What was restored, and the commands that bring the rest back.

        Raises:
            StorageError: it is no backup, is damaged or another project's, or the project is not empty; nothing was
                changed.
        """
        from asof.flows.admin.backup.restore import restore

        self._applied.pushers.close()
        try:
            return restore(self._applied.stores, source, replace=replace, progress=progress)
        finally:
            self._applied.forget()


__all__ = ["StoreBackups"]
