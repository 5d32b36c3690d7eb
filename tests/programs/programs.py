# SPDX-License-Identifier: MIT
"""All programs that are tried."""

import guests
import languages
import servers
import tools

ALL = servers.ALL + languages.ALL + guests.ALL + tools.ALL


def asked_for(names):
    """Those of these names, or all, that this machine has."""
    return [kind for kind in ALL if (not names or kind.name in names) and not kind.missing()]
