"""The status: `health` says whether the service can work, `overview` how it goes; `pages` shows it to who signed in.

`signing_in` opens sessions; `live` tells a page again when it changed; `asking` is what a request says about its
sender, `rendering` turns templates into pages, `writing` is how they write times and sums, `numbers` what the
statistics mean, `sparks` how they look; `faults` shows browsers what went wrong.
"""

from service.web.status.faults import FaultPages
from service.web.status.health import Health, Troubles, version
from service.web.status.overview import OverviewPage, Snapshots
from service.web.status.pages import Pages, Visitor
from service.web.status.signing_in import SigningIn

__all__ = ["FaultPages", "Health", "OverviewPage", "Pages", "SigningIn", "Snapshots", "Troubles", "Visitor", "version"]
