import math
from dataclasses import replace

import pytest

from pyloric_db.errors import ConfigError
from pyloric_db.model.channels import PRINZ_CHANNELS
from pyloric_db.model.constants import ACETYLCHOLINE, GLUTAMATE, Constants
from pyloric_db.vocabulary import CHANNELS


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"C": 0.0}, "constant C must be a number above 0, not 0.0"),
        ({"C": math.nan}, "constant C must be a number above 0, not nan"),
        ({"tau_Ca": -1.0}, "constant tau_Ca must be a number above 0"),
        ({"area_cm2": "1"}, "constant area_cm2 must be a number above 0, not '1'"),
        ({"Q10_tau_m": True}, "constant Q10_tau_m must be a number above 0"),
        ({"Q10_gbar": (1.5,)}, "constant Q10_gbar must have 8 factors, one per channel"),
        ({"Q10_gbar": (1.0,) * 7 + (0.0,)}, r"constant Q10_gbar\[7\] must be a number above 0"),
        ({"Q10_gsyn": {"glutamat": 2.0}}, "Q10_gsyn must map transmitters .glutamate, acetyl"),
        ({"Q10_tau_s": 2.0}, "Q10_tau_s must map transmitters .* not 2.0"),
        ({"Q10_tau_s": {"glutamate": -2.0}}, r"Q10_tau_s\['glutamate'\] must be a number above 0"),
        (
            {"channels": PRINZ_CHANNELS[::-1]},
            "channels must be a tuple that begins with Na, CaT, .* in order",
        ),
        ({"channels": None}, "channels must be a tuple that begins with Na"),
        ({"channels": CHANNELS}, "channels must be a tuple that begins with Na"),
        (
            {
                "channels": (
                    *PRINZ_CHANNELS[:5],
                    replace(PRINZ_CHANNELS[5], h=PRINZ_CHANNELS[0].h),
                    *PRINZ_CHANNELS[6:],
                )
            },
            "Kd can have no gate h, which of the eight only Na, CaT, CaS, A have",
        ),
        (
            {"channels": (replace(PRINZ_CHANNELS[0], power=0), *PRINZ_CHANNELS[1:])},
            "the power of channel Na must be a whole number from 1 to 9, not 0",
        ),
        (
            {"channels": (replace(PRINZ_CHANNELS[0], power=3.0), *PRINZ_CHANNELS[1:])},
            "the power of channel Na must be a whole number from 1 to 9, not 3.0",
        ),
        ({"transmitters": (GLUTAMATE,)}, "transmitters must be those of glutamate, acetylcholine"),
        (
            {"transmitters": (replace(GLUTAMATE, k_minus=-1.0), ACETYLCHOLINE)},
            "k_minus of glutamate must be a number above 0",
        ),
    ],
)
def test_constants_that_make_no_sense(change, text):
    with pytest.raises(ConfigError, match=text):
        Constants(**change)


def test_powers_go_from_1_to_9():
    for power in (1, 9):
        channels = (replace(PRINZ_CHANNELS[0], power=power), *PRINZ_CHANNELS[1:])
        assert Constants(channels=channels).channels[0].power == power
    with pytest.raises(ConfigError, match="from 1 to 9, not 10"):
        Constants(channels=(replace(PRINZ_CHANNELS[0], power=10), *PRINZ_CHANNELS[1:]))
