"""The matrix of values: type × value × way in × engine × online store × way out.

Each cell is the value itself, a refusal that names what it refuses, or a gap, listed with its reason in `gaps`; a gap
that closes fails its test, so that the list only gets shorter. Not every cell is a test of its own: many cases are
columns of one row, or messages of one topic, so that engines and stores can all be tried.

| way in | cases | tests |
| --- | --- | --- |
| Parquet files, one by one; pushes as dicts, Arrow, pandas, Polars | `cases` | embedded/test_value_matrix |
| Parquet, Delta as one wide row; labels of frames and of SQL | `batch` | embedded/test_file_matrix |
| messages: JSON, Avro, Protobuf | `messages` | embedded/test_message_matrix |
| pushes over HTTP; request values in frames and requests | `requests` | embedded/test_request_matrix |
| CSV files | its own | embedded/test_csv_values |
| messages, pushes and labels on Postgres, Redis, DuckDB | `wide` | integration/test_value_matrix_servers |
| join keys of every type, composite ones, by each way | `tests.lives` | embedded/test_random_lives, integration/test_random_lives |

Ways out are `to_arrow`, `to_df`, `to_polars`, rows, JSON over HTTP and `asof.Client`.
"""
