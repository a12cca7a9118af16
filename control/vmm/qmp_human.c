// SPDX-License-Identifier: BSD-3-Clause
// Commands of the human monitor, by QMP. Run by whoever speaks QMP; what they print is text for
// people: qemu_views.c reads it.

#include "qmp.h"

#include <errno.h>
#include <string.h>

int qmp_human(struct qmp *q, const char *line, char **text, struct err *e)
{
	json_t *answer = NULL;
	int rc = qmp_call(
		q, "human-monitor-command", json_pack("{s:s}", "command-line", line), &answer, e);

	if (rc < 0)
		return rc;
	*text = json_is_string(answer) ? strdup(json_string_value(answer)) : NULL;
	json_decref(answer);
	return *text != NULL
		       ? 0
		       : err_set(e, EPROTO, "QEMU's monitor answered \"%s\" with no text", line);
}
