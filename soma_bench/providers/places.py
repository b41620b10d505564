"""Where a model runs, as far as an address and a name tell: on a machine of one's own or elsewhere."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(base_url: str) -> bool:
    """Whether an address can only be this machine itself."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_own(base_url: str, trusted_hosts: frozenset[str]) -> bool:
    """Whether an address is this machine, or one that is trusted like it by its exact name."""
    trusted = {host.lower() for host in trusted_hosts}
    return is_loopback(base_url) or (urlsplit(base_url).hostname or "") in trusted


def is_cloud_tag(model: str) -> bool:
    """Whether a name says that the model runs in Ollama's cloud, as ``gpt-oss:120b-cloud`` does."""
    tag = model.rpartition("/")[2].partition(":")[2].lower()
    return tag == "cloud" or tag.endswith(("-cloud", ":cloud"))
