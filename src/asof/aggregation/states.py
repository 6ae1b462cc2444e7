"""State components of aggregates: how to start them from events and merge them, for all groups at once.

A component owns consecutive words of every record. States are columns of an int64 matrix (words × records), in which
floats are their bits; `merge` reduces runs of columns. Components with objects store the objects in the pool, and their
names in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asof.aggregation import float_sums
from asof.aggregation.objects import NONE, ObjectPool
from asof.aggregation.segments import RecordRuns
from asof.aggregation.words import InputColumn
from asof.dtypes import INT_BOUNDS

Ints = NDArray[np.int64]

LOWEST, HIGHEST = INT_BOUNDS["Int64"]
LIMB = 0xFFFFFFFF


def bits(number: float) -> int:
    """The 64 bits of a float as an integer."""
    return int(np.float64(number).view(np.int64))


class StateComponent:
    """One part of the state of a (column, where) pair."""

    kind = ""
    width = 1
    holds_object = False
    merges_in_place = True
    """Whether its words can be merged one by one, without copying the runs side by side."""
    operation: np.ufunc = np.add
    floats = False
    """The operation that merges two words of a part that merges in place, and whether they are floats."""
    empty: tuple[int, ...] = (0,)
    at: int

    def __init__(self, source: int) -> None:
        self.source = source

    def bind(self, parts: dict[tuple[Any, ...], StateComponent]) -> None:
        """Find other parts that this one reads; called once, when all of them have their positions."""

    @property
    def words(self) -> range:
        return range(self.at, self.at + self.width)

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        """Write the states of single events into `out` (words × events)."""
        raise NotImplementedError

    def merge(self, states: Ints, heads: Ints, sizes: Ints, out: Ints, pool: ObjectPool) -> None:
        """Merge the runs of `states` that begin at `heads` into `out` (words × runs)."""
        raise NotImplementedError

    def merge_in_place(self, runs: RecordRuns, out: dict[int, Ints]) -> None:
        """Merge two runs per row without copying them, into `out` by word."""
        out[self.at] = runs.reduce(self.operation, self.at, self.empty[0], floats=self.floats)


class Count(StateComponent):
    """The number of values."""

    kind = "count"

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        # True is 1: what a single event counts.
        out[self.at] = column.mask

    def merge(self, states: Ints, heads: Ints, sizes: Ints, out: Ints, pool: ObjectPool) -> None:
        # `reduceat` reduces from each head to the next, so heads must be those of runs that are not empty.
        out[self.at] = np.add.reduceat(states[self.at], heads)


class IntegerSum(StateComponent):
    """An exact sum in limbs of 32 bits, lowest first; all but the last are in [0, 2³²)."""

    kind = "integer_sum"
    width = 2
    empty: tuple[int, ...] = (0, 0)

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        # Two's complement: the lower limb of -1 is 2**32 - 1 and the upper one -1, which together are -1 again.
        numbers = column.words()
        out[self.at] = numbers & LIMB
        out[self.at + 1] = numbers >> 32

    def merge(self, states: Ints, heads: Ints, sizes: Ints, out: Ints, pool: ObjectPool) -> None:
        # Limb by limb, so that a sum of 2**31 records cannot overflow a word. `>>` rounds down also for negative
        # numbers, so the carry is signed, and only the last limb is.
        carry: Any = 0
        for word in self.words:
            total = np.add.reduceat(states[word], heads) + carry
            carry = total >> 32
            out[word] = total & LIMB if word != self.at + self.width - 1 else total

    def merge_in_place(self, runs: RecordRuns, out: dict[int, Ints]) -> None:
        carry: Any = 0
        for word in self.words:
            total = runs.reduce(np.add, word, 0) + carry
            carry = total >> 32
            out[word] = total & LIMB if word != self.at + self.width - 1 else total


class DecimalSum(IntegerSum):
    """An exact sum of unscaled decimals, in four limbs."""

    kind = "decimal_sum"
    width = 4
    empty = (0, 0, 0, 0)

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        for word, limb in zip(self.words, column.limbs()):
            out[word] = limb


class FloatSum(StateComponent):
    """A sum of doubles (`asof.aggregation.float_sums`); it is NaN after NaN, or after infinities of both signs."""

    kind = "float_sum"
    floats = True

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        values = column.words().astype(np.float64)
        # Of all that are NaN the one that carries nothing.
        out[self.at] = np.where(np.isnan(values), np.nan, values).view(np.int64)

    def merge(self, states: Ints, heads: Ints, sizes: Ints, out: Ints, pool: ObjectPool) -> None:
        out[self.at] = float_sums.merged(states[self.at], lambda column: np.add.reduceat(column, heads))

    def merge_in_place(self, runs: RecordRuns, out: dict[int, Ints]) -> None:
        out[self.at] = float_sums.merged(
            runs.words[self.at], lambda column: runs.reduce_column(np.add, column, 0).view(np.float64)
        )


GREATEST_SQUARED = 1e150
"""Beyond this the square of a float may overflow; `std` and `var` of it are NaN, in every engine."""


class Moments(StateComponent):
    """Mean and sum of squared distances from it, merged by Chan's rule over any number of states at once.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    kind = "moments"
    merges_in_place = False
    width = 2
    empty = (0, 0)
    count: StateComponent

    def bind(self, parts: dict[tuple[Any, ...], StateComponent]) -> None:
        self.count = parts["count", self.source]

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        # One value is its own mean, at a distance of 0.
        values = column.words().astype(np.float64)
        out[self.at] = np.where(np.abs(values) > GREATEST_SQUARED, np.nan, values).view(np.int64)
        out[self.at + 1] = 0

    def merge(self, states: Ints, heads: Ints, sizes: Ints, out: Ints, pool: ObjectPool) -> None:
        counts = states[self.count.at].astype(np.float64)
        means, squares = states[self.at].view(np.float64), states[self.at + 1].view(np.float64)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            # Distances from one of the means, not from 0: equal values then have a variance of exactly 0.
            pivots = np.maximum.reduceat(np.where(counts > 0, means, -np.inf), heads)
            totals = np.add.reduceat(counts, heads)
            # States without values take no part: their mean is a 0 that stands for nothing.
            shifts = np.where(counts > 0, means - np.repeat(pivots, sizes), 0.0)
            merged = np.where(totals > 0, pivots + np.add.reduceat(counts * shifts, heads) / totals, 0.0)
            distances = np.where(counts > 0, means - np.repeat(merged, sizes), 0.0)
            spread = np.add.reduceat(squares + counts * distances * distances, heads)
        out[self.at], out[self.at + 1] = merged.view(np.int64), spread.view(np.int64)


class Extreme(StateComponent):
    """The least or greatest word. NaN is the greatest float, so it is also the initial value of a minimum."""

    def __init__(self, source: int, *, greatest: bool, floats: bool) -> None:
        super().__init__(source)
        self.greatest, self.floats = greatest, floats
        self.kind = ("max" if greatest else "min") + ("_float" if floats else "_int")
        if floats:
            # `maximum` returns NaN where it meets one, `fmin` only where there is nothing else: NaN is the greatest.
            self.empty = (bits(-np.inf) if greatest else bits(np.nan),)
            self.operation = np.maximum if greatest else np.fmin
        else:
            self.empty = (LOWEST if greatest else HIGHEST,)
            self.operation = np.maximum if greatest else np.minimum

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        words = column.words()
        out[self.at] = np.where(column.mask, words.view(np.int64), self.empty[0])

    def merge(self, states: Ints, heads: Ints, sizes: Ints, out: Ints, pool: ObjectPool) -> None:
        # The bits of floats do not sort like the floats (of negative ones, they sort the other way round).
        words = states[self.at].view(np.float64) if self.floats else states[self.at]
        out[self.at] = self.operation.reduceat(words, heads).view(np.int64)


class Pick(StateComponent):
    """The first or last value in the order of rows: the words of the sort key, then the value's word."""

    merges_in_place = False

    def __init__(self, source: int, *, last: bool, order_words: int, objects: bool) -> None:
        super().__init__(source)
        self.last, self.order_words, self.holds_object = last, order_words, objects
        self.kind = "last" if last else "first"
        self.width = order_words + 1
        self.empty = (LOWEST if last else HIGHEST,) * order_words + ((NONE if objects else 0),)

    @property
    def value_at(self) -> int:
        return self.at + self.order_words

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        # An event without a value gets the key that loses against every other one.
        for word, numbers, empty in zip(self.words, order, self.empty):
            out[word] = np.where(column.mask, numbers, empty)
        if self.holds_object:
            out[self.value_at] = pool.add_where(column.objects(), column.mask)
        else:
            out[self.value_at] = column.words().view(np.int64)

    def merge(self, states: Ints, heads: Ints, sizes: Ints, out: Ints, pool: ObjectPool) -> None:
        reduce = np.maximum if self.last else np.minimum
        # The sort key has several words, compared one after the other: for each word, keep the candidates of each group
        # that have its best value, until every group has one left.
        groups = np.repeat(np.arange(len(heads)), sizes)
        left = np.arange(states.shape[1])
        for word in range(self.at, self.value_at):
            candidates = states[word, left]
            best = reduce.reduceat(candidates, np.flatnonzero(_changes(groups)))
            chosen = candidates == best[groups]
            left, groups = left[chosen], groups[chosen]
            if len(left) == len(heads):
                break  # one for each group: further words can decide nothing
        # Of candidates with equal keys the first: they are one event, folded twice.
        winners = left[_changes(groups)]
        for word in self.words:
            out[word] = states[word, winners]


class ObjectComponent(StateComponent):
    """A state that is an object of the pool; runs of more than one are merged in a loop."""

    holds_object = True
    merges_in_place = False
    grows = False
    empty = (NONE,)

    def merge(self, states: Ints, heads: Ints, sizes: Ints, out: Ints, pool: ObjectPool) -> None:
        names = states[self.at].tolist()
        merged = []
        for head, size in zip(heads.tolist(), sizes.tolist()):
            members = [name for name in names[head : head + size] if name != NONE]
            if len(members) > 1:
                olds = [pool[name] for name in members]
                state, same = self.join(olds), None
                if self.grows:
                    # A set without new values keeps its name, so that it is not encoded again.
                    same = next((name for name, old in zip(members, olds) if len(old) == len(state)), None)
                merged.append(pool.add(state) if same is None else same)
            else:
                # By far the most runs: nothing to merge, so the object is not even decoded.
                merged.append(members[0] if members else NONE)
        out[self.at] = merged

    def join(self, states: list[Any]) -> Any:
        """Merge several states to one."""
        raise NotImplementedError


class ObjectExtreme(ObjectComponent):
    """The least or greatest string, bytes or decimal."""

    def __init__(self, source: int, *, greatest: bool) -> None:
        super().__init__(source)
        self.kind = "max_object" if greatest else "min_object"
        self.choose: Callable[[Iterable[Any]], Any] = max if greatest else min

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        out[self.at] = pool.add_where(column.objects(), column.mask)

    def join(self, states: list[Any]) -> Any:
        return self.choose(states)


class Distinct(ObjectComponent):
    """The exact set of values. Floats are stored as bits: NaN is one value, and so are -0.0 and 0.0."""

    kind = "distinct"
    grows = True

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        if column.dtype is not None and column.dtype.is_float:
            # -0.0 + 0.0 is 0.0, and all NaNs get the bits of one.
            floats = column.words() + 0.0
            values = [(word,) for word in np.where(np.isnan(floats), np.nan, floats).view(np.int64).tolist()]
        else:
            values = [(value,) for value in column.objects()]
        out[self.at] = pool.add_where(values, column.mask)

    def join(self, states: list[Any]) -> Any:
        return set().union(*states)


class Tail(ObjectComponent):
    """The last n values, oldest first, each as [words of the sort key…, value]."""

    kind = "tail"

    def __init__(self, source: int, *, n: int) -> None:
        super().__init__(source)
        self.n = n

    def start(self, column: InputColumn, order: list[Ints], out: Ints, pool: ObjectPool) -> None:
        values = [((*place, value),) for *place, value in zip(*(word.tolist() for word in order), column.objects())]
        out[self.at] = pool.add_where(values, column.mask)

    def join(self, states: list[Any]) -> Any:
        entries = [entry for state in states for entry in state]
        entries.sort(key=lambda entry: tuple(entry[:-1]))
        return entries[-self.n :]


def _changes(groups: Ints) -> NDArray[np.bool_]:
    changed = np.ones(len(groups), dtype=bool)
    np.not_equal(groups[1:], groups[:-1], out=changed[1:])
    return changed
