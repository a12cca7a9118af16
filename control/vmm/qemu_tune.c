// SPDX-License-Identifier: BSD-3-Clause
// Capabilities and parameters of QEMU's migration, changed for Godwit and put back. Run by the
// driver's thread. What a QEMU does not know is not asked of it; what cannot be done without was
// looked for by qemu_check().

#include "qemu_tune.h"

#include <string.h>

static const struct {
	const char *name;
	bool source, target; /* as wanted on either side */
} capabilities[] = {
	{"x-ignore-shared", true, true},
	{"late-block-activate", false, true}, /* the target takes the disks' locks with cont */
	{"return-path", false, false},
	{"multifd", false, false},
	{"postcopy-ram", false, false},
	{"postcopy-preempt", false, false},
	{"release-ram", false, false},
	{"background-snapshot", false, false},
	{"mapped-ram", false, false},
	{"zero-copy-send", false, false},
	{"pause-before-switchover", false, false},
	{"switchover-ack", false, false},
	{"auto-converge", false, false},
	{"dirty-limit", false, false},
	{"xbzrle", false, false},
	{"compress", false, false},
	{"block", false, false},
	{"x-colo", false, false},
};

static json_t *command(const char *execute, json_t *arguments)
{
	return json_pack("{s:s, s:o}", "execute", execute, "arguments", arguments);
}

static int tune_capabilities(
	struct qemu *u, bool incoming, json_t *change, json_t *undo, struct err *e)
{
	json_t *have = NULL, *c, *to = json_array(), *from = json_array();
	size_t i;
	int rc = qmp_call(u->qmp, "query-migrate-capabilities", NULL, &have, e);

	json_array_foreach(have, i, c)
	{
		const char *name = json_string_value(json_object_get(c, "capability"));
		bool is = json_is_true(json_object_get(c, "state"));

		for (size_t k = 0;
			name != NULL && k < sizeof(capabilities) / sizeof(capabilities[0]); k++) {
			bool want = incoming ? capabilities[k].target : capabilities[k].source;

			if (strcmp(name, capabilities[k].name) != 0 || want == is)
				continue;
			json_array_append_new(
				to, json_pack("{s:s, s:b}", "capability", name, "state", want));
			json_array_append_new(
				from, json_pack("{s:s, s:b}", "capability", name, "state", is));
		}
	}
	json_decref(have);
	if (json_array_size(to) > 0) {
		json_array_append_new(change, command("migrate-set-capabilities",
						      json_pack("{s:O}", "capabilities", to)));
		json_array_append_new(undo, command("migrate-set-capabilities",
						    json_pack("{s:O}", "capabilities", from)));
	}
	json_decref(to);
	json_decref(from);
	return rc;
}

#define NO_LIMIT ((json_int_t)1 << 40) /* bytes a second */

static int tune_parameters(
	struct qemu *u, bool incoming, json_t *change, json_t *undo, struct err *e)
{
	json_t *have = NULL, *to = json_object(), *from = json_object(), *speed, *tls;
	int rc = qmp_call(u->qmp, "query-migrate-parameters", NULL, &have, e);

	speed = json_object_get(have, "max-bandwidth");
	tls = json_object_get(have, "tls-creds");
	if (json_is_integer(speed) && !incoming) {
		json_object_set_new(to, "max-bandwidth", json_integer(NO_LIMIT));
		json_object_set(from, "max-bandwidth", speed);
	}
	/* The socket ends in the daemon, which protects what it sends. */
	if (json_is_string(tls) && json_string_length(tls) > 0) {
		json_object_set_new(to, "tls-creds", json_string(""));
		json_object_set(from, "tls-creds", tls);
	}
	if (json_object_size(to) > 0) {
		json_array_append_new(change, command("migrate-set-parameters", json_incref(to)));
		json_array_append_new(undo, command("migrate-set-parameters", json_incref(from)));
	}
	json_decref(have);
	json_decref(to);
	json_decref(from);
	return rc;
}

int qemu_tuning(struct qemu *u, bool incoming, json_t **change, json_t **undo, struct err *e)
{
	int rc;

	*change = json_array();
	*undo = json_array();
	rc = tune_capabilities(u, incoming, *change, *undo, e);
	return rc == 0 ? tune_parameters(u, incoming, *change, *undo, e) : rc;
}

int qemu_run(struct qmp *q, const json_t *commands, struct err *e)
{
	json_t *c;
	size_t i;

	json_array_foreach((json_t *)commands, i, c)
	{
		json_t *arguments = json_object_get(c, "arguments");
		int rc = qmp_call(q, json_string_value(json_object_get(c, "execute")),
			json_incref(arguments), NULL, e);

		if (rc < 0)
			return rc;
	}
	return 0;
}
