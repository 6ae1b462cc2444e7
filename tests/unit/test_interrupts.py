"""Ctrl-C in the middle of what must not be interrupted: it comes, but a moment later."""

from __future__ import annotations

import os
import signal
import time
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from asof.cli.interrupts import Interrupts


class Compiled(ExtensionFileLoader):
    """Loads a compiled module that runs Python code while it is made, as those of nanobind do for their enums."""

    def __init__(self) -> None:
        super().__init__("compiled", "compiled.so")
        self.is_made = False

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            str(spec)
        self.is_made = True
        return ModuleType("compiled")


def test_a_compiled_module_is_loaded_to_its_end_and_then_the_command_ends() -> None:
    loader = Compiled()
    spec = spec_from_loader("compiled", loader)
    assert spec is not None
    interrupts = Interrupts()

    with interrupts.noticed(), pytest.raises(KeyboardInterrupt):
        module_from_spec(spec)
        assert loader.is_made
        time.sleep(30)

    assert loader.is_made and interrupts.came


def test_a_users_own_module_is_interrupted_at_once(tmp_path: Path) -> None:
    path = tmp_path / "features.py"
    path.write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(1000): str(_)\nDONE = True\n"
    )
    spec = spec_from_loader("features", SourceFileLoader("features", str(path)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)

    with Interrupts().noticed(), pytest.raises(KeyboardInterrupt):
        spec.loader.exec_module(module)

    assert not hasattr(module, "DONE")


def test_a_block_leaves_no_alarm_behind() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    loader = Compiled()
    spec = spec_from_loader("compiled", loader)
    assert spec is not None

    with Interrupts().noticed():
        module_from_spec(spec)

    time.sleep(0.1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
