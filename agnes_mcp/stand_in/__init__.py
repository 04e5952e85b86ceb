"""A stand-in for BigQuery on the loopback interface: its REST API and its Storage Read gRPC API, over DuckDB.

Google's own clients speak to it, unmodified but for their endpoints:

    from agnes_mcp.stand_in import Fault, Partition, StandIn

    with StandIn(project="my-project", location="US") as bq:
        bq.create_table(
            "my_dataset", "orders",
            schema="id INT64 NOT NULL, day DATE, tags ARRAY<STRING>, buyer STRUCT<name STRING, age INT64>",  # or REST's
            rows=[{"id": 1, "day": "2024-01-01"}],  # or parquet="orders/*.parquet", arrow=table, sql="SELECT …"
            partition=Partition("day", require_filter=True), clustering=["id"], description="…", primary_key=["id"],
        )
        bq.create_view("my_dataset", "orders_v", "SELECT id, day FROM `my-project.my_dataset.orders`")

        rest = bigquery.Client(project=bq.project, credentials=…, client_options={"api_endpoint": bq.api_endpoint})
        storage = BigQueryReadClient(transport=BigQueryReadGrpcTransport(channel=grpc.insecure_channel(bq.grpc_target)))

        bq.faults.add(Fault("tables.get", status=503, headers={"Retry-After": "1"}, times=2))
        bq.faults.add(Fault("ReadRows", grpc_code="UNAVAILABLE", at_batch=3))
        bq.requests.named("jobs.insert")   # every call made: name, path, body, labels, maximum_bytes_billed, dry_run
        bq.query_jobs()                    # the query jobs that really ran (dry runs are none)
        bq.tokens.accept("token-1"); bq.tokens.expire("token-1"); bq.tokens.seen   # with StandIn(require_token=True)
        bq.job_latency_s = 0.5             # every job stays RUNNING at least so long, cancellable
        bq.bills_cancelled = True          # a job cancelled while it ran is billed in full, as BigQuery may do

What a test may switch, on what `create_table` and the others return or as their keywords, at any time:

    Table.accuracy = "LOWER_BOUND"       what dry runs over it say of their estimate
    Table.statistics = "absent" | "zero" hides the bytes of every dry run and job over it
    Table.row_filter = "id < 3"          a row access policy: only these rows ("FALSE": none), bytes hidden,
                                         tabledata.list 403
    Table.policy_tags = {"email": "pii"} a column that is denied: 403 names it and its tag; tables.get shows the tag
    Table.forbidden = True               403 for its metadata, its rows, and statements over it
    create_external(…, drive=True)       a Sheet: 403 unless `bq.tokens.grant_drive(token)`
    create_dataset(…, location="EU")     its jobs run there; asked for elsewhere it is notFound
    Dataset.forbidden = True             403 for it and all that is in it; listed all the same
    Dataset.gone = True                  still listed, but 404
    events_20240101, events_20240102, …  are read by `my_dataset.events_*` with `_TABLE_SUFFIX`, priced by shard
    StandIn("example.com:my-project")    a project of a domain; names differ by case, in datasets too
    create_routine("d", "f", ["x"], "x * 2")   listed in `referencedRoutines` of statements that call d.f
    bq.keep_past(table, until, rows)     what FOR SYSTEM_TIME AS OF before `until` reads; without it a table has no
                                         past but its present, back to `created_ms` and no further than 7 days
    bq.references = "bases" | "named" | "both" what `referencedTables` lists for a view: its base tables, what the
                                         text names, or views and base tables
    Fault("job", reason="backendError")  a job that ends so; also jobRateLimitExceeded, quotaExceeded, …
    Fault("jobs.get", status=404)        a job that is not found at first
    Fault("jobs.*", reason="billingNotEnabled")  or accessNotConfigured, policyViolation (VPC Service Controls), …
    Fault("tabledata.list", cells={"at": "x"})   a cell that no client can read

A dry run of another statement than a SELECT names its `statementType` and tables; nothing runs it.

`bq.api_endpoint` is `http://127.0.0.1:<port>`, `bq.grpc_target` is `127.0.0.1:<port>` (plaintext unless a certificate
was given). Method names in faults and the request log: `datasets.list/get`, `tables.list/get`, `tabledata.list`,
`jobs.insert/query/get/list/cancel/getQueryResults`, `CreateReadSession`, `ReadRows`, and `job`, a job's execution.
SQL is compiled in `googlesql`: what GoogleSQL or the stand-in does not answer rightly is refused ("The stand-in does
not answer …"), never guessed. Approximate functions and sketches count exactly.

`python -m agnes_mcp.stand_in` runs it alone; see `__main__`.
"""

from __future__ import annotations

from agnes_mcp.stand_in.fields import Field
from agnes_mcp.stand_in.stand_in import StandIn
from agnes_mcp.stand_in.tables import Partition
from agnes_mcp.stand_in.wire.faults import Fault

__all__ = ["Fault", "Field", "Partition", "StandIn"]
