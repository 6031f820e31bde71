"""The rows of a table in memory as the rows of a source, in an order that their content decides.

Belongs here: rows that a declaration reads, when they are a part of all rows. Must not be here: files, databases.
"""

import numpy as np
import pyarrow as pa

from fraud_pipeline.ingest.column_mapping import Header, SourceError
from fraud_pipeline.ingest.declaration import Declaration
from fraud_pipeline.ingest.file_content import LABELS, FileContent, complete_fields, mark_unknown_labels, row_hashes
from fraud_pipeline.ingest.readings import declared_readings, unnamed_columns, unnamed_note


def table_content(rows: pa.Table, declaration: Declaration, *, marks_legitimate: bool) -> FileContent:
    """Rows of a table by time.

    Args:
        rows: some of all rows, with the columns that the declaration names, and perhaps others.
        declaration: what the columns are; it names a transaction id and a time.
        marks_legitimate: whether the label marks legitimate rows anywhere, so that an empty one is unknown.

    Raises SourceError for columns that cannot be read, and for times that are no times.

    """
    header = Header(tuple(rows.column_names))
    if "transaction_id" not in declaration.fields:
        raise SourceError("the rows of a table are in no order, so a column must give their ids: transaction_id=COLUMN")
    if declaration.event_time is None:
        raise SourceError("the rows of a table are in no order, so a column must give their time: event_time=COLUMN")
    fields: dict[str, pa.Array] = {}
    notes: dict[str, int] = {}
    for reading in declared_readings(declaration, header, all_rows=False):
        pieces = tuple(reading.typed(rows.column(name).combine_chunks(), name) for name in reading.columns)
        column = reading.converted(pieces, lambda row: f"row {row + 1}")
        fields[reading.field] = column.values
        notes |= {f"{reading.field}: {what}": count for what, count in column.notes.items()}
    if unnamed := unnamed_columns(declaration, header):
        notes[unnamed_note(unnamed)] = len(rows)
    complete_fields(fields, notes, declaration, n_rows=len(rows))
    mark_unknown_labels(fields, notes, marks_legitimate=marks_legitimate)
    moments = fields["event_time"].cast(pa.int64())
    if moments.null_count:
        raise SourceError(
            f"{moments.null_count} of {len(rows)} rows have a time that cannot be read: correct event_time in "
            "fraud.toml, or leave such rows out in the query"
        )
    times = moments.to_numpy()
    table = pa.table(fields)
    order = np.lexsort((row_hashes(table), times))
    labels: list[str] = [field for field in LABELS if field in fields]
    return FileContent(table.take(pa.array(order)), times[order], n_misplaced=0, label_columns=labels, notes=notes)
