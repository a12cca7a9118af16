// SPDX-License-Identifier: BSD-3-Clause
// The planted bug of a program that end-to-end tests start: GODWIT_PLANT names it. (Or a stage to
// stand at, or a step: plant_stage.c.)

#include "plant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum plant plant_active = PLANT_NONE;

static const struct {
	const char *name;
	enum plant plant;
} plants[] = {
	{"law1-clear-all-ones", PLANT_LAW1_CLEAR_ALL_ONES},
	{"law2-forget-vmm", PLANT_LAW2_FORGET_VMM},
	{"law3-armed-too", PLANT_LAW3_ARMED_TOO},
	{"law4-need-not-tell", PLANT_LAW4_NEED_NOT_TELL},
	{"law6-no-fence", PLANT_LAW6_NO_FENCE},
	{"law6-give-back", PLANT_LAW6_GIVE_BACK},
	{"law8-not-huge", PLANT_LAW8_NOT_HUGE},
	{"law9-no-late", PLANT_LAW9_NO_LATE},
	{"rdma-bad-key", PLANT_RDMA_BAD_KEY},
};

__attribute__((constructor)) static void choose(void)
{
	const char *name = getenv("GODWIT_PLANT");

	for (size_t i = 0; name != NULL && i < sizeof(plants) / sizeof(plants[0]); i++)
		if (strcmp(plants[i].name, name) == 0)
			plant_active = plants[i].plant;
	if (plant_active == PLANT_NONE &&
		(name == NULL ||
			(strncmp(name, "stage:", 6) != 0 && strncmp(name, "step:", 5) != 0))) {
		fprintf(stderr, "GODWIT_PLANT does not name a planted bug\n");
		abort();
	}
}
