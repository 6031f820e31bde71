"""Positions: the zones of the map, distances, and weights of zones as homes and as destinations.

Belongs here: positions. Must not be here: customers and merchants. The last zone index, `NET`, is not on the map: it
is the zone of online merchants.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_CITIES: Final[tuple[tuple[str, float, float, float, int], ...]] = (
    # country, latitude, longitude, weight, districts; customers live in the first country
    ("DE", 52.52, 13.40, 3.6, 4),
    ("DE", 53.55, 9.99, 1.9, 3),
    ("DE", 48.14, 11.58, 1.5, 3),
    ("DE", 50.94, 6.96, 1.1, 2),
    ("DE", 50.11, 8.68, 0.8, 2),
    ("DE", 51.34, 12.37, 0.6, 2),
    ("AT", 48.21, 16.37, 1.4, 1),
    ("NL", 52.37, 4.90, 1.2, 1),
    ("FR", 48.86, 2.35, 1.5, 1),
    ("ES", 41.39, 2.17, 1.6, 1),
    ("IT", 41.90, 12.50, 1.5, 1),
    ("GB", 51.51, -0.13, 1.2, 1),
    ("TR", 41.01, 28.98, 0.9, 1),
    ("US", 40.71, -74.01, 0.7, 1),
)
HOME_COUNTRY: Final = _CITIES[0][0]
_DISTRICT_DEGREES: Final = 0.09  # about 10 km between the districts of a city

_city_of_zone = np.repeat(np.arange(len(_CITIES)), [city[4] for city in _CITIES])
_district = np.concatenate([np.arange(city[4]) for city in _CITIES])

ZONE_COUNTRY: Final = np.array([_CITIES[city][0] for city in _city_of_zone], dtype=object)
ZONE_LATITUDE: Final = np.array([_CITIES[c][1] for c in _city_of_zone]) + _DISTRICT_DEGREES * (_district % 2)
ZONE_LONGITUDE: Final = np.array([_CITIES[c][2] for c in _city_of_zone]) + _DISTRICT_DEGREES * 1.6 * (_district // 2)
ZONES: Final = len(_city_of_zone)
NET: Final = ZONES

_weight = np.array([_CITIES[city][3] / _CITIES[city][4] for city in _city_of_zone])
_at_home = ZONE_COUNTRY == HOME_COUNTRY
HOME_WEIGHT: Final[NDArray[np.float64]] = np.where(_at_home, _weight, 0.0) / _weight[_at_home].sum()
# A third of all trips stay in the country.
TRIP_WEIGHT: Final[NDArray[np.float64]] = np.where(
    _at_home, _weight / _weight[_at_home].sum() / 3, _weight / _weight[~_at_home].sum() * 2 / 3
)

EARTH_KM_PER_DEGREE: Final = 111.2


def kilometres(
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    other_latitude: NDArray[np.float64],
    other_longitude: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Distance on a locally flat Earth, good to a few percent inside a continent; arguments broadcast, degrees."""
    mean_latitude = np.radians((latitude + other_latitude) / 2)
    north = latitude - other_latitude
    east = (longitude - other_longitude) * np.cos(mean_latitude)
    return np.asarray(np.hypot(north, east) * EARTH_KM_PER_DEGREE)


def zones_drawn(weights: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Zones drawn by weight from numbers in (0, 1), shape (n,)."""
    cumulative = np.cumsum(weights)
    return np.minimum(np.searchsorted(cumulative / cumulative[-1], draws, side="right"), ZONES - 1)
