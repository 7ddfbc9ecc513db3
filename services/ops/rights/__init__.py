"""The least rights that each service needs, printed in the form that administrators apply.

- `kafka`      ACLs
- `postgres`   roles (sql/roles.sql)
"""
