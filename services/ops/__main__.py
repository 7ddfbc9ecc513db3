"""Makes `python -m services.ops` the same as `gapless`; the embedded stack starts its services this way."""

from __future__ import annotations

from services.ops.cli.main import main

if __name__ == "__main__":
    main()
