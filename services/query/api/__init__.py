"""What can be asked, and how the answer looks.

- `routes`            the paths
- `parameters`        what a request may say, and how it is refused
- `fast_params`       the same values without FastAPI, if nothing is wrong with them
- `reads`             which statements answer a question, and who may have the answer
- `windows`           which rows make a page. Pure
- `cursors`           opaque keyset cursors. Pure
- `delivery_status`   the sender's tick of each message of a page. Pure
- `serializers`       rows to JSON. Pure
- `responses`         the models of the answers, for OpenAPI; tests hold `serializers` against them
"""
