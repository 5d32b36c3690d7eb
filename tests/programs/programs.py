# SPDX-License-Identifier: MIT
"""All programs that are tried."""

import guests
import languages
import servers
import tools

ALL = servers.ALL + languages.ALL + guests.ALL + tools.ALL
