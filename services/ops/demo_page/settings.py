"""Whether the demo page is served. Variable: `GAPLESS_DEMO_PAGE`."""

from __future__ import annotations

from typing import Final

from services.runtime.settings import Settings, settings_from

DEMO_PATH: Final = "/demo"


class DemoSettings(Settings):
    model_config = settings_from("GAPLESS_DEMO_")

    page: bool = False
    """Whether `/demo` serves a chat in the browser, for development: users paste their tokens there."""
