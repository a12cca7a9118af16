// SPDX-License-Identifier: BSD-3-Clause
// The planted bug of a test build; empty elsewhere.

#include "plant.h"

#ifdef GODWIT_PLANT
enum plant plant_active = PLANT_NONE;
#endif
