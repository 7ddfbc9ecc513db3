"""The least rights that each service needs, in formats that administrators can apply.

- `kafka`      ACLs
- `postgres`   roles (sql/roles.sql)
"""
