# SPDX-License-Identifier: MIT
"""What ksm-bench decides and reports, in Python; what it measures is in C.

ksm-bench runs this folder with python3, which needs nothing but its standard library.
"""

import sys

import command

if __name__ == "__main__":
    sys.exit(command.main(sys.argv[1:]))
