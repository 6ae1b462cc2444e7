"""Which files a compaction joins."""

from __future__ import annotations

from asof.offline.delta.levels import ArchiveFile, file_name, order_id, to_join

ORDER = order_id(["user", "at"])


def flush(number: int, rows: int = 10, *, date: str = "2026-01-01") -> ArchiveFile:
    return ArchiveFile(f"ingest_date={date}/part-{number}.parquet", 1000 + rows, rows, date)


def run(name: str, *sizes: int, order: str = ORDER, date: str = "2026-01-01") -> list[ArchiveFile]:
    names = [file_name(order, name * 32, number) for number in range(len(sizes))]
    return [ArchiveFile(f"ingest_date={date}/{each}", 1000 + size, size, date) for each, size in zip(names, sizes)]


def joined(*files: ArchiveFile, few_rows: int = 100) -> list[list[ArchiveFile]]:
    return to_join(files, ORDER, few_rows=few_rows)


def test_flushes_of_a_date_are_joined_and_dates_are_kept_apart() -> None:
    flushes = [flush(1), flush(2), flush(3, date="2026-01-02"), flush(4, date="2026-01-02")]

    assert joined(*reversed(flushes)) == [[flush(2), flush(1)], [flushes[3], flushes[2]]]


def test_a_single_file_is_sorted_if_it_has_many_rows() -> None:
    assert joined(flush(1, rows=100)) == []
    assert joined(flush(1, rows=101)) == [[flush(1, rows=101)]]


def test_a_run_is_joined_with_what_is_at_least_half_as_large() -> None:
    small, large = run("a", 15, 5), run("b", 100, 50)

    assert joined(flush(1), flush(2), *small, *large) == [[flush(1), flush(2), *small]]
    assert joined(flush(1, 20), flush(2, 45), *small, *large) == [[flush(1, 20), flush(2, 45), *small, *large]]


def test_runs_alone_stay() -> None:
    assert joined(*run("a", 10), *run("b", 10)) == []


def test_runs_of_another_order_are_sorted_again() -> None:
    other = run("a", 10, 10, order=order_id(["item", "at"]))

    assert joined(*other) == [other]


def test_a_row_is_written_again_a_logarithmic_number_of_times() -> None:
    files: list[ArchiveFile] = []
    written = 0
    for number in range(500):
        files += [flush(2 * number), flush(2 * number + 1)]
        for group in joined(*files):
            size = sum(each.rows for each in group)
            written += size
            files = [each for each in files if each not in group]
            files += [ArchiveFile(f"d/{file_name(ORDER, f'{number:032x}', 0)}", 9, size, "2026-01-01")]

    assert written <= 10 * 500 * 20, "each row about as often as there are levels"
    assert len(files) <= 8
