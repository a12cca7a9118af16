// SPDX-License-Identifier: BSD-3-Clause
// Lets a daemon's sessions stand at a stage, entered and not begun, as long as there is a file:
// GODWIT_PLANT=stage:STAGE:FILE. Whatever happens meanwhile, happens at that stage. And lets the
// daemon itself stand still between two steps of the handover, until it is killed:
// GODWIT_PLANT=step:STEP.

#include "plant.h"
#include "session_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct held {
	char name[SESSION_NAME];
	unsigned stage;
};

static bool is_named(const char *stage)
{
	const char *plant = getenv("GODWIT_PLANT");
	size_t n = strlen(stage);

	return plant != NULL && strncmp(plant, "stage:", 6) == 0 &&
	       strncmp(plant + 6, stage, n) == 0 && plant[6 + n] == ':' &&
	       access(plant + 7 + n, F_OK) == 0;
}

static void on_later(evutil_socket_t fd, short what, void *arg)
{
	struct held *h = arg;
	struct session *s = session_find(h->name);

	(void)fd;
	(void)what;
	/* It may have left the stage another way. */
	if (s != NULL && s->stage == h->stage && s->state == stage_table[h->stage].state &&
		!plant_stage(s))
		stage_table[h->stage].source(s);
	free(h);
}

bool plant_stage(struct session *s)
{
	static const struct timeval later = {0, 10000};
	struct held *h;

	if (!is_named(stage_table[s->stage].name))
		return false;
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		abort();
	strcpy(h->name, s->name);
	h->stage = s->stage;
	event_base_once(s->host->base, -1, EV_TIMEOUT, on_later, h, &later);
	return true;
}

void plant_step(const char *name)
{
	const char *plant = getenv("GODWIT_PLANT");

	if (plant == NULL || strncmp(plant, "step:", 5) != 0 || strcmp(plant + 5, name) != 0)
		return;
	fprintf(stderr, "stands at step %s\n", name);
	for (;;)
		pause();
}
