"""The HTTP API of query.

- `routes`            the paths
- `parameters`        validates the parameters of requests
- `fast_params`       reads the same values without FastAPI, if all are valid
- `reads`             runs the statements of each read and checks membership
- `windows`           selects the rows of a page. Pure
- `cursors`           opaque keyset cursors. Pure
- `delivery_status`   the delivery status of each message of a page. Pure
- `serializers`       turns rows into JSON. Pure
- `responses`         models of the responses, for OpenAPI; tests check `serializers` against them
"""
