"""Views of the Data Docs that need no network: scripts, styles and images come from the site's own folder.

The templates of Great Expectations load them from seven remote hosts. Its index draws the list of runs with one of
those scripts, so without a network the list would be empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from great_expectations.render.view.view import DefaultJinjaIndexPageView, DefaultJinjaPageView

# file name in the remote address -> file in static/vendor
VENDORED = {
    "bootstrap.min.css": "bootstrap.min.css",
    "bootstrap.min.js": "bootstrap.min.js",
    "bootstrap-table.min.css": "bootstrap-table.min.css",
    "bootstrap-table.min.js": "bootstrap-table.min.js",
    "bootstrap-table-filter-control.css": "bootstrap-table-filter-control.min.css",
    "bootstrap-table-filter-control.min.css": "bootstrap-table-filter-control.min.css",
    "bootstrap-table-filter-control.min.js": "bootstrap-table-filter-control.min.js",
    "bootstrap-datepicker.min.css": "bootstrap-datepicker.min.css",
    "bootstrap-datepicker.min.js": "bootstrap-datepicker.min.js",
    "bootstrap-prefers-dark.css": "bootstrap-prefers-dark.min.css",
    "jquery-3.7.1.min.js": "jquery.min.js",
    "popper.min.js": "popper.min.js",
    "all.min.css": "css/all.min.css",
}
POLICY = (
    "default-src 'none'; script-src 'self' file: 'unsafe-inline'; style-src 'self' file: 'unsafe-inline';"
    " img-src 'self' file: data:; font-src 'self' file: data:"
)

_SCRIPT = re.compile(r"<script\b[^>]*\bsrc=[\"'](?P<url>(?:https?:)?//[^\"']+)[\"'][^>]*>\s*</script>", re.IGNORECASE)
_LINK = re.compile(r"<link\b[^>]*\bhref=[\"'](?P<url>(?:https?:)?//[^\"']+)[\"'][^>]*>", re.IGNORECASE)
_IMAGE = re.compile(r"(?P<head><img\b[^>]*\bsrc=[\"'])(?:https?:)?//[^\"']*/(?P<name>[^\"'/?]+)[^\"']*", re.IGNORECASE)
_STYLE_URL = re.compile(r"url\([\"']?(?:https?:)?//[^)]*/(?P<name>[^)\"'/]+)[\"']?\)", re.IGNORECASE)
_ICON = re.compile(r"(<link rel=\"shortcut icon\" href=\")[^\"]*")
_FOOTER = re.compile(r"<footer\b.*?</footer>", re.IGNORECASE | re.DOTALL)


def offline(html: str, root: str) -> str:
    """Return the page with every remote script, style and image replaced by the site's own, or removed.

    Args:
        html: A page of Data Docs.
        root: Relative path from the page to the site's folder: "" or "../" times its depth.
    """
    vendor, images = f"{root}static/vendor", f"{root}static/images"

    def vendored(tag: str) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            name = VENDORED.get(match["url"].partition("?")[0].rsplit("/", 1)[-1])
            return tag.format(f"{vendor}/{name}") if name else ""

        return replace

    html = _SCRIPT.sub(vendored('<script src="{}"></script>'), html)
    html = _LINK.sub(vendored('<link rel="stylesheet" href="{}">'), html)
    html = _IMAGE.sub(lambda match: f"{match['head']}{images}/{match['name']}", html)
    html = _STYLE_URL.sub(f"url({images}/logo-long.png)", html)
    html = _ICON.sub(rf"\1{images}/favicon.ico", _FOOTER.sub("", html))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return html.replace("<head>", f"<head>\n    {policy}", 1)


class OfflinePageView(DefaultJinjaPageView):  # type: ignore[misc]
    """Page of a suite (``expectations/<suite>.html``) or a result (``validations/<suite>/<run>/<time>/...``)."""

    def render(self, document: Any, template: Any = None, **kwargs: Any) -> str:
        """Return the page's HTML."""
        depth = 4 if document.renderer_type == "ValidationResultsPageRenderer" else 1
        return offline(super().render(document, template, **kwargs), "../" * depth)


class OfflineIndexPageView(DefaultJinjaIndexPageView):  # type: ignore[misc]
    """The index page, at the top of the site."""

    def render(self, document: Any, template: Any = None, **kwargs: Any) -> str:
        """Return the page's HTML."""
        return offline(super().render(document, template, **kwargs), "")
