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

`bq.api_endpoint` is `http://127.0.0.1:<port>`, `bq.grpc_target` is `127.0.0.1:<port>` (plaintext unless a certificate
was given). Method names in faults and the request log: `datasets.list/get`, `tables.list/get`, `tabledata.list`,
`jobs.insert/query/get/list/cancel/getQueryResults`, `CreateReadSession`, `ReadRows`, and `job`, a job's execution.
`python -m agnes_mcp.stand_in` runs it alone; see `__main__`.
"""

from __future__ import annotations

from agnes_mcp.stand_in.fields import Field
from agnes_mcp.stand_in.stand_in import StandIn
from agnes_mcp.stand_in.tables import Partition
from agnes_mcp.stand_in.wire.faults import Fault

__all__ = ["Fault", "Field", "Partition", "StandIn"]
