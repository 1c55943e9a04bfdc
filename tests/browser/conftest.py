import os
import shutil

import pytest
from browsing import lacking

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium():
    """Path of a Chromium; Playwright is there, too."""
    named = os.environ.get("ANBN_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if not found or not shutil.which(found):
        lacking(
            f"no Chromium ({named or ', '.join(CHROMIUMS)}): install it (Debian: "
            "`apt-get install chromium`) or set ANBN_CHROMIUM to its path"
        )
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        lacking("playwright is not installed: `make test-browser` installs it")
    return found
