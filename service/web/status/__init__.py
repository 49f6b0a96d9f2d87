"""The status: `health` says how the service is, `pages` shows it to people who signed in."""

from service.web.status.health import Status, Troubles, version

__all__ = ["Status", "Troubles", "version"]
