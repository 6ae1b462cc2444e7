"""On-demand functions and transforms are known by all that decides their value."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from asof.definitions import LogSource
from asof.definitions.identity import KnownFunction
from asof.definitions.project import state_hash
from asof.repository import collect

HEAD = """
from asof import *
from asof.types import *
cart = RequestSource("cart", schema=[Field("items", Int64)])
"""
VIEW = """
@on_demand_feature_view(sources=[cart], schema=[Field("out", Float64)], mode="python")
def out(row):
    return {"out": %s}
"""


def known(folder: Path, files: dict[str, str]) -> KnownFunction:
    """The function of the view `out`, or of the first transform, of a repository of these files."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text))
    project = collect(folder)
    view = project.on_demand_views.get("out")
    if view is not None:
        return view.code
    (transform,) = [each.transform for each in project.sources.values() if isinstance(each, LogSource)]
    assert transform is not None
    return transform.code


def features(before: str, answer: str) -> str:
    return HEAD + dedent(before) + VIEW % answer


# kind → the files before, what is replaced in them and by what, and what the difference is called
KINDS: dict[str, tuple[dict[str, str], str, str, str]] = {
    "a constant": ({"f.py": features("RATE = 2.0", "row['items'] * RATE")}, "2.0", "3.0", "constant 'RATE'"),
    "text": ({"f.py": features("K = 'a'", "float(len(K))")}, "'a'", "'b'", "constant 'K'"),
    "bytes": ({"f.py": features("K = b'a'", "float(len(K))")}, "b'a'", "b'b'", "constant 'K'"),
    "None": ({"f.py": features("K = None", "float(K is None)")}, "K = None", "K = 0", "constant 'K'"),
    "True for 1": ({"f.py": features("K = 1", "float(K)")}, "K = 1", "K = True", "constant 'K'"),
    "a float for an integer": ({"f.py": features("K = 1", "K / 2")}, "K = 1", "K = 1.0", "constant 'K'"),
    "minus zero": ({"f.py": features("K = 0.0", "K")}, "K = 0.0", "K = -0.0", "constant 'K'"),
    "a decimal": (
        {"f.py": features("from decimal import Decimal\nK = Decimal('1.0')", "float(K)")},
        "'1.0'", "'1.00'", "constant 'K'",
    ),
    "a time": (
        {"f.py": features("from datetime import datetime, UTC\nK = datetime(2026, 1, 1, tzinfo=UTC)", "K.timestamp()")},
        "2026, 1, 1", "2026, 1, 2", "constant 'K'",
    ),
    "a time zone": (
        {"f.py": features("from zoneinfo import ZoneInfo\nK = ZoneInfo('Europe/Berlin')", "float(len(K.key))")},
        "Europe/Berlin", "Europe/Paris", "constant 'K'",
    ),
    "a pattern": ({"f.py": features("import re\nK = re.compile('a')", "float(bool(K))")}, "('a')", "('b')", "'K'"),
    "an enum": (
        {"f.py": features(
            """
            import enum
            class E(enum.Enum):
                A = 1
            K = E.A
            """, "K.value")}, "A = 1", "A = 2", "class 'E'",
    ),
    "a dataclass": (
        {"f.py": features(
            """
            from dataclasses import dataclass
            @dataclass
            class Rates:
                high: float
            K = Rates(2.0)
            """, "K.high")}, "(2.0)", "(3.0)", "constant 'K'",
    ),
    "a property of a dataclass": (
        {"f.py": features(
            """
            from dataclasses import dataclass
            @dataclass
            class Rates:
                high: float
                @property
                def twice(self):
                    return self.high * 2
            K = Rates(2.0)
            """, "K.twice")}, "* 2", "* 3", "class 'Rates'",
    ),
    "a list": ({"f.py": features("K = [1, [2, 3]]", "K[1][0]")}, "2, 3", "3, 2", "constant 'K'"),
    "a tuple for a list": ({"f.py": features("K = [1]", "K[0]")}, "[1]", "(1,)", "constant 'K'"),
    "a dict": ({"f.py": features("K = {'a': 1}", "K['a']")}, "{'a': 1}", "{'a': 2}", "constant 'K'"),
    "the order of a dict": (
        {"f.py": features("K = {'a': 1, 'b': 2}", "next(iter(K.values()))")},
        "'a': 1, 'b': 2", "'b': 2, 'a': 1", "constant 'K'",
    ),
    "a set": ({"f.py": features("K = {'a', 'b'}", "float('a' in K)")}, "'a', 'b'", "'b'", "constant 'K'"),
    "a NumPy array": (
        {"f.py": features("import numpy as np\nK = np.array([1.0, 2.0])", "float(K[1])")},
        "2.0]", "2.5]", "constant 'K'",
    ),
    "a NumPy array's type": (
        {"f.py": features("import numpy as np\nK = np.array([1, 2], dtype='int64')", "float(K[1])")},
        "int64", "int32", "constant 'K'",
    ),
    "a NumPy number": (
        {"f.py": features("import numpy as np\nK = np.float64(1)", "float(K)")}, "(1)", "(2)", "constant 'K'",
    ),
    "a default": (
        {"f.py": features("RATE = 2.0\ndef scaled(x, rate=RATE):\n    return x * rate", "scaled(row['items'])")},
        "RATE = 2.0", "RATE = 3.0", "default 'rate of function scaled'",
    ),
    "a keyword's default": (
        {"f.py": features("RATE = 2.0\ndef scaled(x, *, rate=RATE):\n    return x * rate", "scaled(row['items'])")},
        "RATE = 2.0", "RATE = 3.0", "default 'rate of function scaled'",
    ),
    "a closure": (
        {"f.py": features(
            """
            def make(k):
                def inner(x):
                    return x * k
                return inner
            twice = make(2.0)
            """, "twice(row['items'])")}, "make(2.0)", "make(3.0)", "constant 'k of function make.<locals>.inner'",
    ),
    "a helper": (
        {"f.py": features("def scaled(x):\n    return x * 2.0", "scaled(row['items'])")},
        "* 2.0", "* 3.0", "function 'scaled'",
    ),
    "a helper below": (
        {"f.py": HEAD + VIEW % "scaled(row['items'])" + "def scaled(x):\n    return x * 2.0\n"},
        "* 2.0", "* 3.0", "function 'scaled'",
    ),
    "a helper's helper's constant": (
        {"f.py": features(
            """
            RATE = 2.0
            def deep(x):
                return x * RATE
            def scaled(x):
                return deep(x)
            """, "scaled(row['items'])")}, "RATE = 2.0", "RATE = 3.0", "constant 'RATE'",
    ),
    "a module's function": (
        {"helpers.py": "def scaled(x):\n    return x * 2.0\n", "f.py": features("import helpers", "helpers.scaled(1)")},
        "* 2.0", "* 3.0", "function 'helpers.scaled'",
    ),
    "a module's constant": (
        {"helpers.py": "RATE = 2.0\n", "f.py": features("import helpers as h", "h.RATE")},
        "2.0", "3.0", "constant 'h.RATE'",
    ),
    "a constant of a helper in another module": (
        {"helpers.py": "RATE = 2.0\ndef scaled(x):\n    return x * RATE\n",
         "f.py": features("from helpers import scaled", "scaled(1)")},
        "2.0", "3.0", "constant 'helpers.RATE'",
    ),
    "a package's inner module": (
        {"lib/__init__.py": "", "lib/rates.py": "RATE = 2.0\n", "f.py": features("import lib.rates", "lib.rates.RATE")},
        "2.0", "3.0", "constant 'lib.rates.RATE'",
    ),
    "a re-export": (
        {"lib/__init__.py": "from lib.rates import scaled\n", "lib/rates.py": "def scaled(x):\n    return x * 2.0\n",
         "f.py": features("from lib import scaled", "scaled(1)")}, "2.0", "3.0", "function 'lib.rates.scaled'",
    ),
    "a relative import": (
        {"lib/__init__.py": "from .rates import scaled\n", "lib/rates.py": "def scaled(x):\n    return x * 2.0\n",
         "f.py": features("from lib import scaled", "scaled(1)")}, "2.0", "3.0", "function 'lib.rates.scaled'",
    ),
    "an import inside the function": (
        {"helpers.py": "RATE = 2.0\n", "f.py": HEAD + """
@on_demand_feature_view(sources=[cart], schema=[Field("out", Float64)], mode="python")
def out(row):
    from helpers import RATE
    return {"out": row["items"] * RATE}
"""}, "2.0", "3.0", "constant 'helpers.RATE'",
    ),
    "a module imported inside a helper": (
        {"helpers.py": "def scaled(x):\n    return x * 2.0\n",
         "f.py": features("def go(x):\n    import helpers\n    return helpers.scaled(x)", "go(row['items'])")},
        "2.0", "3.0", "function 'helpers.scaled'",
    ),
    "a module as a value": (
        {"helpers.py": "def scaled(x):\n    return x * 2.0\n",
         "f.py": features("import helpers", "getattr(helpers, 'scaled')(1)")},
        "2.0", "3.0", "module 'helpers'",
    ),
    "a method": (
        {"f.py": features(
            """
            class Scale:
                @staticmethod
                def by(x):
                    return x * 2.0
            """, "Scale.by(row['items'])")}, "2.0", "3.0", "class 'Scale'",
    ),
    "a constant that a method uses": (
        {"f.py": features(
            """
            RATE = 2.0
            class Scale:
                def by(self, x):
                    return x * RATE
            """, "Scale().by(row['items'])")}, "RATE = 2.0", "RATE = 3.0", "constant 'RATE'",
    ),
    "a class attribute from elsewhere": (
        {"f.py": features("RATE = 2.0\nclass Scale:\n    rate = RATE\n", "Scale.rate")},
        "RATE = 2.0", "RATE = 3.0", "constant 'rate of class Scale'",
    ),
    "a base class": (
        {"f.py": features(
            """
            class Base:
                def by(self, x):
                    return x * 2.0
            class Scale(Base):
                pass
            """, "Scale().by(row['items'])")}, "2.0", "3.0", "class 'Base'",
    ),
    "a bound method of a dataclass": (
        {"f.py": features(
            """
            from dataclasses import dataclass
            @dataclass
            class Scale:
                rate: float
                def by(self, x):
                    return x * self.rate
            by = Scale(2.0).by
            """, "by(row['items'])")}, "(2.0)", "(3.0)", "name 'by'",
    ),
    "a named tuple": (
        {"f.py": features(
            """
            from collections import namedtuple
            from typing import NamedTuple
            class Rates(NamedTuple):
                high: float
            K = Rates(2.0)
            """, "K.high")}, "(2.0)", "(3.0)", "constant 'K'",
    ),
    "a decorator's argument": (
        {"f.py": features(
            """
            import functools
            RATE = 2.0
            def times(rate):
                def decorate(f):
                    @functools.wraps(f)
                    def inner(x):
                        return f(x) * rate
                    return inner
                return decorate
            @times(RATE)
            def scaled(x):
                return x
            """, "scaled(row['items'])")}, "RATE = 2.0", "RATE = 3.0", "constant 'rate of function scaled'",
    ),
    "a decorated function's own text": (
        {"f.py": features(
            """
            import functools
            def same(f):
                @functools.wraps(f)
                def inner(x):
                    return f(x)
                return inner
            @same
            def scaled(x):
                return x * 2.0
            """, "scaled(row['items'])")}, "2.0", "3.0", "function 'scaled#2'",
    ),
    "a cached function": (
        {"f.py": features(
            "import functools\n@functools.lru_cache\ndef scaled(x):\n    return x * 2.0", "scaled(row['items'])")},
        "2.0", "3.0", "function 'scaled'",
    ),
    "a lambda": (
        {"f.py": features("scaled = lambda x: x * 2.0", "scaled(row['items'])")}, "2.0", "3.0", "function '<lambda>'",
    ),
    "one of two lambdas in a line": (
        {"f.py": features("f, g = (lambda x: x * 1.0), (lambda x: x * 2.0)", "g(row['items'])")},
        "2.0", "3.0", "function '<lambda>'",
    ),
    "a partial": (
        {"f.py": features(
            "from functools import partial\ndef by(k, x):\n    return x * k\nscaled = partial(by, 2.0)", "scaled(1)")},
        "2.0", "3.0", "name 'scaled'",
    ),
    "a function in a dict": (
        {"f.py": features("def f(x):\n    return x * 2.0\nCALLS = {'f': f}", "CALLS['f'](1)")},
        "2.0", "3.0", "function 'f'",
    ),
    "another function in a dict": (
        {"f.py": features(
            "def f(x):\n    return x * 2.0\ndef g(x):\n    return x * 3.0\nCALLS = {'f': f}", "CALLS['f'](1)")},
        "{'f': f}", "{'f': g}", "constant 'CALLS'",
    ),
    "an alias": (
        {"f.py": features("def f(x):\n    return 2.0\ndef g(x):\n    return 3.0\nh = f", "h(1)")},
        "h = f", "h = g", "name 'h'",
    ),
    "a package's function under another name": (
        {"f.py": features("from math import sin as f", "f(row['items'])")}, "sin as f", "cos as f", "name 'f'",
    ),
    "another package under the name": (
        {"f.py": features("import math as m", "m.sqrt(row['items'])")}, "import math", "import cmath", "name 'm'",
    ),
    "an operator": (
        {"f.py": features("from operator import itemgetter\nget = itemgetter('items')", "float(get(row))")},
        "'items'", "'out'", "name 'get'",
    ),
    "a recursive function": (
        {"f.py": features("def f(x):\n    return f(x - 1) if x > 0 else 2.0", "f(3)")},
        "2.0", "3.0", "function 'f'",
    ),
    "functions that call one another": (
        {"f.py": features(
            "def f(x):\n    return g(x - 1) if x > 0 else 2.0\ndef g(x):\n    return f(x - 1) if x > 0 else 5.0", "f(3)")},
        "5.0", "3.0", "function 'g'",
    ),
    "a generator inside": (
        {"f.py": features("RATES = (1.0, 2.0)", "sum(row['items'] * rate for rate in RATES)")},
        "2.0", "3.0", "constant 'RATES'",
    ),
    "a nested function's constant": (
        {"f.py": HEAD + """
RATE = 2.0
@on_demand_feature_view(sources=[cart], schema=[Field("out", Float64)], mode="python")
def out(row):
    def inner(x):
        return x * RATE
    return {"out": inner(row["items"])}
"""}, "RATE = 2.0", "RATE = 3.0", "constant 'RATE'",
    ),
    "a conditional definition": (
        {"f.py": features(
            "import sys\nif sys.version_info > (3, 0):\n    def f(x):\n        return 2.0\nelse:\n    f = None", "f(1)")},
        "2.0", "3.0", "function 'f'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_of_what_decides_the_value_is_named(kind: str, tmp_path: Path) -> None:
    files, old, new, name = KINDS[kind]
    before = known(tmp_path / "repo", files)
    again = known(tmp_path / "repo", files)
    changed = {path: text.replace(old, new) for path, text in files.items()}
    assert changed != files
    after = known(tmp_path / "repo", changed)

    assert before.problems == ()
    assert again.differences(before) == []
    assert name in " ".join(after.differences(before))
    assert after.fingerprint != before.fingerprint


# kind → the files before and after, which mean the same
ALIKE: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "something unused": (
        {"f.py": features("RATE = 2.0\nOTHER = 1", "RATE")}, {"f.py": features("RATE = 2.0\nOTHER = 2", "RATE")}
    ),
    "a local of a constant's name": (
        {"f.py": features("k = 1", "[k for k in (1.0,)][0]")}, {"f.py": features("k = 2", "[k for k in (1.0,)][0]")}
    ),
    "lines above": ({"f.py": features("K = 1", "K")}, {"f.py": "# more\n\n" + features("K = 1", "K")}),
    "the order of a set": (
        {"f.py": features("K = {'a', 'b', 'c'}", "float('a' in K)")},
        {"f.py": features("K = {'c', 'b', 'a'}", "float('a' in K)")},
    ),
    "an array's order in memory": (
        {"f.py": features("import numpy as np\nK = np.array([[1, 2], [3, 4]])", "float(K[0, 1])")},
        {"f.py": features("import numpy as np\nK = np.array([[1, 2], [3, 4]], order='F')", "float(K[0, 1])")},
    ),
    "another way to the same constant": (
        {"f.py": features("K = 1 + 1", "K")}, {"f.py": features("K = 2", "K")}
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALIKE)
def test_what_decides_no_value_makes_no_difference(kind: str, tmp_path: Path) -> None:
    before, after = ALIKE[kind]
    assert known(tmp_path / "one", before).differences(known(tmp_path / "two", after)) == []


REFUSED = {
    "an object of a class": ("class Model:\n    pass\nM = Model()", "float(bool(M))", "'M', which is a Model"),
    "a generator": ("M = (x for x in [1.0])", "float(bool(M))", "'M', which is a generator"),
    "a lock": ("import threading\nM = threading.Lock()", "float(bool(M))", "'M', which is a lock"),
    "a data frame": ("import pandas as pd\nM = pd.DataFrame({'a': [1]})", "float(len(M))", "'M', which is a DataFrame"),
    "an object in a list": ("class Model:\n    pass\nM = [Model()]", "float(len(M))", "'M', which is a Model"),
    "a file": ("M = open(__file__)", "float(len(M.name))", "'M', which is a TextIOWrapper"),
    "code made of text": ("exec('def M(x): return 2.0')", "M(1)", "'M', which is a function whose source text"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_compared_is_a_problem_unless_a_version_stands_for_it(kind: str, tmp_path: Path) -> None:
    before, answer, problem = REFUSED[kind]
    text = features(before, answer)
    code = known(tmp_path / "a", {"f.py": text})
    assert problem in " ".join(code.problems)

    versions = [
        known(tmp_path / "b", {"f.py": text.replace('mode="python"', f'mode="python", version="{version}"')})
        for version in ("1", "1", "2")
    ]
    assert versions[0].problems == ()
    assert versions[1].differences(versions[0]) == []
    assert versions[2].differences(versions[0]) == ["function 'out'", "version"]


def test_a_version_stands_for_nothing_that_can_be_compared(tmp_path: Path) -> None:
    text = features("class Model:\n    pass\nM = Model()\nRATE = 2.0", "RATE * bool(M)")
    text = text.replace('mode="python"', 'mode="python", version="1"')
    before = known(tmp_path / "a", {"f.py": text})
    after = known(tmp_path / "a", {"f.py": text.replace("RATE = 2.0", "RATE = 3.0")})
    assert after.differences(before) == ["constant 'RATE'"]


def test_a_transform_is_known_by_the_constants_that_it_uses(tmp_path: Path) -> None:
    text = """
    from asof import *
    from asof.types import *
    RATE = 2.0
    def prices(messages):
        return messages.set_column(0, "price", [RATE])
    clicks = KafkaSource("clicks", bootstrap_servers="k:9092", topic="t", timestamp_field="at", transform=prices,
                         schema=[Field("price", Float64), Field("at", Timestamp)])
    """
    before = known(tmp_path / "a", {"f.py": text})
    after = known(tmp_path / "a", {"f.py": text.replace("2.0", "3.0")})
    assert after.differences(before) == ["constant 'RATE'"]


def test_a_transforms_generation_follows_what_decides_its_rows_and_stays_where_its_text_says_all(
    tmp_path: Path,
) -> None:
    text = """
    from asof import *
    from asof.types import *
    RATE = 2.0
    def prices(messages):
        return messages.set_column(0, "price", [RATE])
    user = Entity("user", join_keys=["user_id"])
    clicks = KafkaSource("clicks", bootstrap_servers="k:9092", topic="t", timestamp_field="at", transform=prices,
                         schema=[Field("user_id", Int64), Field("price", Float64), Field("at", Timestamp)])
    latest = FeatureView("latest", entities=[user], source=clicks, schema=[Field("price", Float64)])
    """

    def hash_of(text: str, *, without: str = "") -> str:
        (tmp_path / "f.py").write_text(dedent(text))
        view = collect(tmp_path).views["latest"]
        source = view.source
        assert isinstance(source, LogSource)
        assert source.transform is not None
        if without:
            source.transform.code.content = dict  # type: ignore[method-assign]  # as an earlier Asof kept it
        return state_hash(view)

    assert hash_of(text) != hash_of(text.replace("2.0", "3.0"))
    alone = text.replace("[RATE]", "[2.0]")
    assert hash_of(alone) == hash_of(alone, without="identity")


IDENTITY = """
import importlib.machinery, importlib.util, json, sys, types
src, folder = sys.argv[1:3]
for name in ("asof", "asof.definitions"):
    # The part of the package that other versions of Python need no libraries for.
    module = types.ModuleType(name)
    module.__path__ = [src + "/" + name.replace(".", "/")]
    sys.modules[name] = module
from asof.definitions.identity import identify
sys.path.insert(0, folder)
import features
found = identify(features.out, name="out", mode="python")
assert not found.problems, found.problems
print(json.dumps(found.content()))
"""
EVERYTHING = """
import enum, functools, json as j, math, re
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import partial
from os.path import join
from typing import Any, NamedTuple, Optional
from zoneinfo import ZoneInfo
import helpers
from helpers import rates, scaled as renamed

Point = namedtuple("Point", ["x", "y"])
MARK = object()

class Colour(enum.StrEnum):
    RED = "red"
    BLUE = enum.auto()

class Level(enum.IntFlag):
    LOW = 1
    HIGH = 2

@dataclass(frozen=True, slots=True)
class Limits:
    low: float = 0.0
    names: list[str] = field(default_factory=list)

    def inside(self, x: Optional[float]) -> bool:
        return x is not None and x > self.low

class Rates(NamedTuple):
    high: float
    low: float = 1.0

    def mean(self) -> float:
        return (self.high + self.low) / 2

class Base:
    unit = helpers.UNIT

    @classmethod
    def made(cls): return cls()

    @functools.cached_property
    def big(self): return BIG

class Derived(Base):
    @property
    def twice(self): return 2 * BIG

BIG = 10**30
NAMES = {"ü", "\u2028", "b", "a", "\U0001fae8", "z" * 3}
DEEP = {"k": [(1, 2.5, None, ...), {Colour.RED: Level.LOW | Level.HIGH}], "o": OrderedDict(a=1j)}
TIMES = [datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")), date(2026, 1, 1), time(1, 2, tzinfo=UTC), timedelta(hours=1.5),
         timezone(timedelta(hours=2)), datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=timezone.utc)]
NUMBERS = [Decimal("1.10"), Fraction(1, 3), float("nan"), -0.0, 1e-320, True]
f, g = (lambda x: x + 1), (lambda x, y=[1, 2]: x * 2)
TABLE = {"f": f, "g": [g, partial(g, y=3)], Limits: Limits(1.0, ["a"])}
pattern = re.compile("a|b", re.I)

def fib(n, memo={}):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def logged(times):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **keywords):
            return [function(*args, **keywords) for _ in range(times)][0]
        return wrapper
    return decorate

@logged(times=2)
@functools.lru_cache(maxsize=None)
def slow(x: "Any", *, k: int = 3) -> float:
    match x:
        case {"a": [first, *rest], **others}:
            return first
        case Point(x=0) | Rates():
            return 0.0
    try:
        total = sum(y for y in [x] if (z := y) > 0)
    except (ValueError, TypeError) as error:
        raise RuntimeError(f"{error!r:>{k}}") from error
    async def never():
        async for each in TIMES:
            yield each
    return math.sqrt(k) + z

@functools.singledispatch
def kinds(x):
    return 0.0

@kinds.register(int)
def _(x):
    return float(BIG)

def out(row):
    import statistics as st
    from helpers import rates as again
    table = [TABLE["f"](y) for y in (1, 2)]
    return {"out": (slow(1), fib(3), kinds(2), renamed(2), rates.VAT, again.VAT, helpers.scaled(1), st.mean([1]), NUMBERS,
            MARK, pattern, Derived().twice, Rates(1.0).mean(), TIMES, DEEP, NAMES, join("a"), j.dumps(1), table,
            Limits(1.0).inside(2.0), Base.made().big)}
"""
HELPERS = {
    "helpers/__init__.py": "from .rates import scaled\nUNIT = 'eur'\n",
    "helpers/rates.py": "VAT = 0.2\ndef scaled(x):\n    return x * VAT\n",
}


def other_pythons() -> list[str]:
    """Other versions of Python that are at hand, on the path or under pyenv, and new enough."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    names = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
    names += [str(path) for path in sorted(pyenv.glob("versions/3.1[1-9]*/bin/python"))]
    found: dict[str, str] = {}
    for name in filter(None, names):
        done = subprocess.run(
            [name, "-c", "import sys; print(*sys.version_info[:2])"], check=False, capture_output=True, text=True
        )
        # A shim may be there of a version that is not.
        if done.returncode == 0:
            found.setdefault(done.stdout, name)
    return list(found.values())


def test_the_identity_is_equal_in_every_process_and_python(tmp_path: Path) -> None:
    found = []
    versions = [sys.executable, *other_pythons()]
    src = str(Path(__file__).resolve().parents[2] / "src")
    for place, python in enumerate(versions):
        for seed in ("0", "1"):
            # Another folder each time, and another working directory.
            folder = tmp_path / f"{place}-{seed}"
            for name, text in {**HELPERS, "features.py": EVERYTHING}.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
            done = subprocess.run(
                [python, "-c", IDENTITY, src, str(folder)], check=False, capture_output=True, text=True,
                env={**os.environ, "PYTHONHASHSEED": seed}, cwd=folder if seed == "0" else "/",
            )  # fmt: skip
            assert done.returncode == 0, (python, done.stderr)
            found.append(json.loads(done.stdout))

    assert len(found[0]["parts"]) > 40
    for each in found[1:]:
        assert each == found[0]
