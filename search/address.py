"""The address of a Ray cluster: who answers there, and joining it.

What this file uses of Ray beyond its public API is written for Ray 2.60, which pyproject.toml asks for.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from search.process import start_ray
from spaces.errors import SpaceError

PATIENCE = 20.0
"""Seconds in which a head that is busy, or that only just starts, must answer; Ray itself takes as many."""
ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""What Ray's own `ray health-check` calls. An empty request is a right one."""


def check_reachable(address: str) -> None:
    """See that a Ray cluster is at HOST:PORT and takes the token that is here; an address of another form is left to Ray, which asks for
    longer and does not say why.

    Raises:
        SpaceError: nobody answers, somebody else does, or the token is refused.
    """
    where = _auto() if address == "auto" else address
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except (OSError, OverflowError, UnicodeError) as error:  # the last of a name that can be none
        raise SpaceError(f"--address {address}: no Ray cluster answers there: {error}") from None
    if not where.startswith("ray://") and os.environ.get("RAY_USE_TLS", "0") == "0":
        _check_head(address, where)


def _auto() -> str:
    """The cluster that this machine belongs to, or that the environment names."""
    from ray._private.services import get_ray_address_from_environment

    try:
        return str(get_ray_address_from_environment("auto", None))
    except ConnectionError as error:
        raise SpaceError(f"--address auto: {str(error).partition('. ')[0]}") from None


def _check_head(address: str, where: str) -> None:
    import grpc  # Ray needs it, too

    token = _token() if os.environ.get("RAY_AUTH_MODE") == "token" else None
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(where, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(ALIVE)(b"", timeout=PATIENCE, wait_for_ready=True, metadata=metadata)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise SpaceError(f"--address {address}: {_refused(token)}") from None
            said = " ".join(str(error.details()).split())
            raise SpaceError(
                f"--address {address}: what answers there is no head of a Ray cluster, whose port is 6379 unless `ray start --port` "
                f"said otherwise: {said}"
            ) from None


def _refused(token: str | None) -> str:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return "the cluster asks for a token: set RAY_AUTH_MODE=token, with the head's ~/.ray/auth_token here"
    if token is None:
        return "the cluster asks for a token, and there is none in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
    return "the cluster refuses the token that is here: copy the head's ~/.ray/auth_token"


def _token() -> str | None:
    """Where Ray looks for it, in its order."""
    if (token := os.environ.get("RAY_AUTH_TOKEN", "").strip()) != "":
        return token
    try:
        path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
        return Path(path).read_text().strip() or None
    except OSError:
        return None


def join(address: str, **options: Any) -> Any:
    """`start_ray` there.

    Raises:
        SpaceError: Ray refuses, in a line.
    """
    from ray.exceptions import AuthenticationError

    try:
        return start_ray(address, **options)
    except AuthenticationError as error:
        raise SpaceError(f"--address {address}: {str(error).partition('. ')[0]}") from error
    except (ConnectionError, RuntimeError) as error:
        raise SpaceError(f"--address {address}: {_why(error)}") from error


def _why(error: Exception) -> str:
    if "No node info" in str(error.__cause__):
        return "no node of that cluster runs on this machine: go to one, or run `ray start --address` here"
    said = " ".join(str(error).split())  # such as of another version of Ray or Python
    if isinstance(error, RuntimeError):
        return said
    asked = os.environ.get("RAY_AUTH_MODE") == "token"
    return (
        f"{said}; {'is its token the one here?' if asked else 'does it ask for a token? Then set RAY_AUTH_MODE=token'}"
    )
