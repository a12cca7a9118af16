// SPDX-License-Identifier: BSD-3-Clause
// The requests of the API: a table of handlers. Run by the control loop. Each finds its fields read
// and checked by the same option table that the command line uses, and calls session.h.

#include "api.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "clock.h"
#include "codec.h"
#include "command.h"
#include "journal.h"
#include "log.h"

static int copy_text(char *dst, size_t bytes, const char *what, const char *src, struct err *e)
{
	if (strlen(src) >= bytes)
		return err_set(e, EINVAL, "%s: longer than %zu characters", what, bytes - 1);
	memcpy(dst, src, strlen(src) + 1);
	return 0;
}

static int find(const struct api_call *c, struct session **s, struct err *e)
{
	*s = session_find(c->name);
	if (*s == NULL)
		return err_set(e, ENOENT,
			"there is no migration '%s': `godwit list` shows which are", c->name);
	return 0;
}

static void set_limits(struct converge_limits *l, const struct option_set *o)
{
	l->downtime_ns = option_number(o, "downtime") * NS_PER_MS;
	l->max_passes = (uint32_t)option_number(o, "max-passes");
	l->max_time_ns = option_number(o, "max-time") * NS_PER_MS;
	l->on_timeout = option_number(o, "on-timeout") ? CONVERGE_PAUSE : CONVERGE_ABORT;
}

/* option_complete() has made sure that one of the two is given. */
static int read_where(struct vmm_where *w, const struct option_set *o, struct err *e)
{
	w->driver = option_given(o, "qmp") ? VMM_QEMU : VMM_AGENT;
	w->pid = (int)option_number(o, "pid");
	if (w->pid != 0 && w->driver != VMM_QEMU)
		return err_set(
			e, EINVAL, "--pid goes with --qmp: an agent's socket tells its process");
	return w->driver == VMM_QEMU
		       ? copy_text(w->socket, sizeof(w->socket), "qmp", option_text(o, "qmp"), e)
		       : copy_text(
				 w->socket, sizeof(w->socket), "agent", option_text(o, "agent"), e);
}

static unsigned flows_of(const struct api_call *c)
{
	unsigned n = c->config->host->nlcores;

	if (option_given(c->options, "flows"))
		return (unsigned)option_number(c->options, "flows");
	if (n > SESSION_FLOWS)
		n = SESSION_FLOWS;
	log_info(c->name, "flows: %u, one for each core of this daemon", n);
	return n;
}

static int on_migrate(struct api_call *c, struct err *e)
{
	const struct option_set *o = c->options;
	struct migrate_options m = {0};
	char host[ADDRESS_HOST], port[6];
	struct session *s;
	int rc;

	if (copy_text(m.name, sizeof(m.name), "name", c->name, e) < 0 ||
		read_where(&m.vmm, o, e) < 0 ||
		copy_text(m.to, sizeof(m.to), "to", option_text(o, "to"), e) < 0 ||
		copy_text(m.peer, sizeof(m.peer), "peer", option_text(o, "peer"), e) < 0 ||
		copy_text(m.link, sizeof(m.link), "link", option_text(o, "link"), e) < 0)
		return -EINVAL;
	m.vmm.cached_disks = option_number(o, "disk-cache") == 1;
	if (m.vmm.cached_disks && m.vmm.driver != VMM_QEMU)
		return err_set(e, EINVAL, "--disk-cache goes with --qmp");
	m.vmm.shared_disks = option_number(o, "shared-disks") == 1;
	if (m.vmm.shared_disks && m.vmm.driver != VMM_QEMU)
		return err_set(e, EINVAL, "--shared-disks goes with --qmp");
	rc = address_split(m.to, host, port, e);
	if (rc == 0 && host[0] == '\0')
		rc = err_set(e, EINVAL, "address '%s': the host is missing, write HOST:PORT", m.to);
	if (rc < 0)
		return rc;
	rc = codec_parse(option_text(o, "codec"), &m.codec, &m.codec_level, e);
	if (rc < 0)
		return rc;
	m.flows = flows_of(c);
	m.peer_timeout_ns = option_number(o, "peer-timeout") * NS_PER_MS;
	m.reconnect_ns = option_number(o, "reconnect") * NS_PER_MS;
	m.bytes_per_s = option_number(o, "bandwidth");
	set_limits(&m.limits, o);
	m.verify = option_number(o, "verify") ? VERIFY_MEMORY : VERIFY_SUMS;
	m.throttle_percent = (unsigned)option_number(o, "throttle");
	m.skip_balloon = option_number(o, "skip-balloon") == 0;
	m.seal = option_number(o, "seal");
	m.dry_run = option_number(o, "dry-run");
	m.hold = option_number(o, "hold");
	m.prepare = option_number(o, "prepare");
	rc = session_migrate(c->config->host, &m, &s, e);
	if (rc < 0)
		return rc;
	json_object_set_new(c->reply, "flows", json_integer(m.flows));
	c->stream = s;
	return 0;
}

static int on_receive(struct api_call *c, struct err *e)
{
	struct receive_options r = {0};
	struct session *s;
	int rc;

	if (copy_text(r.name, sizeof(r.name), "name", c->name, e) < 0 ||
		read_where(&r.vmm, c->options, e) < 0 ||
		copy_text(r.from, sizeof(r.from), "from", option_text(c->options, "from"), e) < 0)
		return -EINVAL;
	r.populate = option_number(c->options, "reserve");
	r.seal = option_number(c->options, "seal");
	rc = session_receive(c->config->host, &r, &s, e);
	if (rc < 0)
		return rc;
	c->stream = s;
	return 0;
}

/* A line for list: without what is long, so that all sessions fit one message. */
static void add_short(void *arg, struct session *s)
{
	json_t *status = session_status(s);

	json_object_del(status, "report");
	json_object_del(status, "under_way");
	json_array_append_new(arg, status);
}

static int on_list(struct api_call *c, struct err *e)
{
	json_t *list = json_array();

	(void)e;
	session_each(add_short, list);
	json_object_set_new(c->reply, "sessions", list);
	return 0;
}

static void add_daemon(const struct api_call *c)
{
	json_t *daemon = json_object();

	json_object_set_new(daemon, "version", json_string(GODWIT_VERSION));
	if (c->config->about != NULL)
		c->config->about(c->config->arg, daemon);
	json_object_set_new(c->reply, "daemon", daemon);
}

/* The host is looked at by godwit itself, which works without a daemon too. */
static int on_doctor(struct api_call *c, struct err *e)
{
	(void)e;
	add_daemon(c);
	return 0;
}

static int on_status(struct api_call *c, struct err *e)
{
	struct session *s;
	int rc;

	if (c->name != NULL) {
		rc = find(c, &s, e);
		if (rc == 0)
			json_object_set_new(c->reply, "session", session_status(s));
		return rc;
	}
	add_daemon(c);
	return on_list(c, e);
}

static int on_cancel(struct api_call *c, struct err *e)
{
	struct session *s;
	int rc = find(c, &s, e);

	return rc < 0 ? rc : session_cancel(s, e);
}

static int on_begin(struct api_call *c, struct err *e)
{
	struct session *s;
	int rc = find(c, &s, e);

	return rc < 0 ? rc : session_begin(s, e);
}

static int on_switch_now(struct api_call *c, struct err *e)
{
	struct session *s;
	int rc = find(c, &s, e);

	return rc < 0 ? rc : session_switch_now(s, e);
}

static int on_set(struct api_call *c, struct err *e)
{
	bool bandwidth = option_given(c->options, "bandwidth");
	bool downtime = option_given(c->options, "downtime");
	struct session *s;
	int rc = find(c, &s, e);

	if (rc == 0 && !bandwidth && !downtime)
		return err_set(e, EINVAL, "nothing to set: give --bandwidth or --downtime");
	if (rc == 0 && bandwidth)
		rc = session_set_bandwidth(s, option_number(c->options, "bandwidth"), e);
	if (rc == 0 && downtime)
		rc = session_set_downtime(s, option_number(c->options, "downtime") * NS_PER_MS, e);
	return rc;
}

static int on_resolve(struct api_call *c, struct err *e)
{
	const char *keep =
		option_given(c->options, "keep") ? option_text(c->options, "keep") : NULL;
	int rc = session_resolve(c->name, keep, c->later, c->later_arg, e);

	return rc == 0 ? API_LATER : rc;
}

static int on_watch(struct api_call *c, struct err *e)
{
	int rc = find(c, &c->stream, e);

	/* What was before: one who comes late sees the earlier passes too. */
	if (rc == 0)
		json_object_set_new(c->reply, "session", session_status(c->stream));
	return rc;
}

static int on_log(struct api_call *c, struct err *e)
{
	enum log_level level;

	(void)e;
	if (option_given(c->options, "level") &&
		log_level_parse(option_text(c->options, "level"), &level) == 0 &&
		level != log_get_level()) {
		/* Said while it still is, or when it is again: a log tells why it falls silent. */
		if (level < LOG_INFO)
			log_info("api", "only level %s and above from now on",
				log_level_name(level));
		log_set_level(level);
		if (level >= LOG_INFO)
			log_info("api", "level %s and above from now on", log_level_name(level));
	}
	json_object_set_new(c->reply, "level", json_string(log_level_name(log_get_level())));
	return 0;
}

static int on_version(struct api_call *c, struct err *e)
{
	(void)e;
	json_object_set_new(c->reply, "version", json_string(GODWIT_VERSION));
	return 0;
}

static int (*const handlers[COMMANDS])(struct api_call *c, struct err *e);

static int on_help(struct api_call *c, struct err *e)
{
	json_t *commands = json_object();

	(void)e;
	for (unsigned i = 0; i < COMMANDS; i++)
		if (handlers[i] != NULL)
			json_object_set_new(commands, command_table[i].name,
				json_string(command_table[i].help));
	json_object_set_new(c->reply, "commands", commands);
	return 0;
}

static int (*const handlers[COMMANDS])(struct api_call *c, struct err *e) = {
	[COMMAND_MIGRATE] = on_migrate,
	[COMMAND_RECEIVE] = on_receive,
	[COMMAND_STATUS] = on_status,
	[COMMAND_LIST] = on_list,
	[COMMAND_CANCEL] = on_cancel,
	[COMMAND_BEGIN] = on_begin,
	[COMMAND_SWITCH_NOW] = on_switch_now,
	[COMMAND_SET] = on_set,
	[COMMAND_RESOLVE] = on_resolve,
	[COMMAND_WATCH] = on_watch,
	[COMMAND_LOG] = on_log,
	[COMMAND_DOCTOR] = on_doctor,
	[COMMAND_VERSION] = on_version,
	[COMMAND_HELP] = on_help,
};

/* The session's name: wanted, allowed or refused, as the command's row says. */
static int read_name(enum command what, const json_t *request, const char **name, struct err *e)
{
	const json_t *j = json_object_get(request, "name");
	const char *words = command_table[what].words;

	*name = NULL;
	if (j == NULL && words[0] == 'N')
		return err_set(
			e, EINVAL, "%s: the field 'name' is missing", command_table[what].name);
	if (j == NULL)
		return 0;
	if (strstr(words, "NAME") == NULL)
		return err_set(e, EINVAL, "%s: unknown field 'name'", command_table[what].name);
	if (!json_is_string(j))
		return err_set(e, EINVAL, "name: a string is wanted");
	*name = json_string_value(j);
	return journal_name_check(*name, e);
}

static bool streams(enum command what, const struct option_set *o)
{
	if (what == COMMAND_MIGRATE || what == COMMAND_RECEIVE)
		return !option_number(o, "detach");
	return what == COMMAND_WATCH;
}

int api_call(struct api_call *call, json_t *request, bool busy, struct err *e)
{
	const char *what = json_string_value(json_object_get(request, "do"));
	enum command command = what ? command_find(what) : COMMANDS;
	struct option_set options;
	int rc;

	call->stream = NULL;
	call->options = &options;
	if (what == NULL)
		return err_set(
			e, EINVAL, "the field 'do' is missing; {\"do\": \"help\"} lists requests");
	if (command == COMMANDS || handlers[command] == NULL)
		return err_set(e, EINVAL,
			"unknown request '%.40s'; {\"do\": \"help\"} lists requests", what);
	rc = read_name(command, request, &call->name, e);
	if (rc < 0)
		return rc;
	option_init(&options, option_godwit, 1u << command);
	rc = option_from_json(&options, request, e);
	if (rc == 0)
		rc = option_complete(&options, e);
	if (rc == 0 && busy && streams(command, &options))
		rc = err_set(e, EBUSY,
			"one connection follows one migration: open another one, or detach");
	if (rc == 0)
		rc = handlers[command](call, e);
	if (rc != 0 || !streams(command, &options))
		call->stream = NULL;
	return rc;
}
