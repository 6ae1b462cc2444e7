"""How long `import asof` and `asof --help` take beside a bare interpreter, and how large a base install is."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Candidate, compare, judge

ROOT = Path(__file__).parents[1]
IMPORT_LIMIT_MS = 100
HELP_LIMIT_MS = 150


def main(argv: list[str]) -> bool:
    """Measure; answer whether all figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_import")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--install", action="store_true", help="also install the package into a fresh environment (network)"
    )
    options, _ = parser.parse_known_args(argv)

    python = sys.executable
    candidates: dict[str, Candidate] = {
        "python -c pass": [python, "-c", "pass"],
        "import asof": [python, "-c", "import asof"],
    }
    script = Path(python).with_name("asof")
    if script.exists():
        candidates["asof --help"] = [str(script), "--help"]
    figures = compare(
        "import", candidates, runs=3 if options.quick else 15, note="whole processes, the interpreter's start included"
    )

    kept = [judge("import asof", figures["import asof"].wall_s * 1e3, IMPORT_LIMIT_MS, unit=" ms")]
    if "asof --help" in figures:
        kept.append(judge("asof --help", figures["asof --help"].wall_s * 1e3, HELP_LIMIT_MS, unit=" ms"))
    if options.install:
        packages, size_mb = measure_install()
        print(f"  base install: {packages} packages, {size_mb:,.0f} MB (pip itself not counted)")
    return all(kept)


def measure_install(*requirements: str | Path) -> tuple[int, float]:
    """Install into a fresh environment.

    Args:
        requirements: what pip is told to install; this package without extras, with its constraints, by default.

    Returns:
        How many packages there are then, itself included, pip and setuptools not, and their size in MB (10^6 bytes).
    """
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder, "bin", "python"))
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        wanted = requirements or ("-c", ROOT / "constraints.txt", ROOT)
        subprocess.run([*pip, "install", "--quiet", "--no-compile", *wanted], check=True)
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", "setuptools"], check=True)
        listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", "pip"], check=True)
        site = next(Path(folder, "lib").glob("python*/site-packages"))
        size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file() and not path.is_symlink())
        return len([line for line in listed.split() if not line.startswith("pip==")]), size / 1e6
