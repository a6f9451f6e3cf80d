"""Sites that give their files only to registered users.

User name and password come from the environment, are sent to the site's own address only,
and stand in no message, file or log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import requests

from segbench.core.errors import DataError
from segbench.datasets.download.client import Client, fault_of


@dataclass(frozen=True)
class Site:
    """How one logs in to a site with a form."""

    host: str
    login_url: str
    register_url: str
    user_variable: str
    password_variable: str

    def credentials(self) -> tuple[str, str] | None:
        """Return user name and password of the environment; None if one is not set."""
        found = os.environ.get(self.user_variable, ""), os.environ.get(self.password_variable, "")
        return found if all(found) else None

    @property
    def words(self) -> str:
        """What a user must do to let segbench log in."""
        return (
            f"register at {self.register_url} and set {self.user_variable} and "
            f"{self.password_variable} in the environment"
        )


SITES = {
    "cityscapes": Site(
        host="www.cityscapes-dataset.com",
        login_url="https://www.cityscapes-dataset.com/login",
        register_url="https://www.cityscapes-dataset.com/register/",
        user_variable="CITYSCAPES_USERNAME",
        password_variable="CITYSCAPES_PASSWORD",
    )
}
"""By ``Archive.login``. Cityscapes answers a right password with a redirect, a wrong one with
the form again (the cityscapesScripts downloader relies on the same)."""


def log_in(client: Client, site: Site) -> None:
    """Give the client the session cookie of a site.

    Raises:
        DataError: No credentials in the environment, they are refused, or no answer.
    """
    credentials = site.credentials()
    if credentials is None:
        raise DataError(f"{site.host} wants a login", fix=site.words)
    form = dict(zip(("username", "password"), credentials, strict=True), submit="Login")
    try:
        with client.session.get(site.login_url, timeout=client.timeout_s, allow_redirects=False):
            pass  # its cookie belongs to the form
        answer = client.session.post(
            site.login_url, data=form, timeout=client.timeout_s, allow_redirects=False
        )
    except (requests.RequestException, OSError, ValueError) as error:
        fault = fault_of(error, site.login_url, client.timeout_s)
        raise DataError(
            f"cannot log in to {site.host}: {fault}", fix="run the same command again later"
        ) from None
    answer.close()
    if not answer.is_redirect:
        problem = "refuses the user name or the password"
        if answer.status_code != requests.codes.ok:
            problem = f"answers the login with HTTP {answer.status_code}"
        raise DataError(
            f"{site.host} {problem}",
            fix=f"check {site.user_variable} and {site.password_variable}",
        )
