"""`python -m services.ops` is `gapless`: how the embedded stack starts its services."""

from __future__ import annotations

from services.ops.cli.main import main

if __name__ == "__main__":
    main()
