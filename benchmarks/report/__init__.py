"""From results to what people read.

- `machine`   where and when a benchmark ran
- `report`    the tables of docs/performance.md
- `svg`       its pictures
"""
