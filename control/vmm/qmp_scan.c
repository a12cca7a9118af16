// SPDX-License-Identifier: BSD-3-Clause
// Finds where a monitor's messages end, by counting brackets outside of texts. Pure; nothing is
// looked at twice, however the bytes come.

#include "qmp_scan.h"

#include <errno.h>
#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One byte inside a message. False when it ends too deep, or closes what was not opened. */
static bool scan_byte(struct qmp_scan *s, char c)
{
	if (s->in_text) {
		if (s->escaped)
			s->escaped = false;
		else if (c == '\\')
			s->escaped = true;
		else if (c == '"')
			s->in_text = false;
		return true;
	}
	if (c == '"')
		s->in_text = true;
	else if (c == '{' || c == '[')
		return ++s->depth <= QMP_DEPTH;
	else if (c == '}' || c == ']')
		s->depth--;
	return true;
}

int64_t qmp_scan(struct qmp_scan *s, const char *buf, size_t len, struct err *e)
{
	while (s->at < len && s->at < QMP_MESSAGE_BYTES) {
		char c = buf[s->at++];

		if (s->depth == 0 && is_blank(c))
			continue;
		if (s->depth == 0 && c != '{')
			return err_set(e, EPROTO,
				"this is no QMP: byte 0x%02x where a message begins; is it the "
				"socket of a monitor in control mode (-qmp)?",
				(unsigned char)c);
		if (!scan_byte(s, c))
			return err_set(e, EPROTO, "a QMP message nests deeper than %u", QMP_DEPTH);
		if (s->depth == 0) {
			int64_t n = (int64_t)s->at;

			*s = (struct qmp_scan){0};
			return n;
		}
	}
	if (s->at >= QMP_MESSAGE_BYTES)
		return err_set(
			e, EPROTO, "a QMP message is longer than %u bytes", QMP_MESSAGE_BYTES);
	return 0;
}

json_t *qmp_scan_json(const char *buf, size_t len, struct err *e)
{
	json_error_t je;
	json_t *msg = json_loadb(buf, len, JSON_REJECT_DUPLICATES, &je);

	if (msg == NULL)
		err_set(e, EPROTO, "QMP sent what is no JSON: %s", je.text);
	return msg;
}
