// SPDX-License-Identifier: BSD-3-Clause
// Meeting a QEMU: its monitor, its process, its state. Run by the driver's thread or by godwit
// doctor; what the monitor says is checked for its kind before use.

#include "qemu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int qemu_get(struct qmp *q, const char *path, const char *property, json_t **value, struct err *e)
{
	return qmp_call(q, "qom-get", json_pack("{s:s, s:s}", "path", path, "property", property),
		value, e);
}

int qemu_children(struct qmp *q, const char *path, json_t **children, struct err *e)
{
	json_t *list = NULL, *item;
	size_t i;
	int rc = qmp_call(q, "qom-list", json_pack("{s:s}", "path", path), &list, e);

	*children = NULL;
	if (rc < 0)
		return rc;
	*children = json_object();
	json_array_foreach(list, i, item)
	{
		const char *name = json_string_value(json_object_get(item, "name"));
		const char *type = json_string_value(json_object_get(item, "type"));
		size_t n = type != NULL ? strlen(type) : 0;

		if (name != NULL && n > 7 && strncmp(type, "child<", 6) == 0)
			json_object_set_new(*children, name, json_stringn(type + 6, n - 7));
	}
	json_decref(list);
	return 0;
}

int qemu_ask_status(struct qemu *u, struct err *e)
{
	json_t *answer = NULL;
	const char *status;
	int rc = qmp_call(u->qmp, "query-status", NULL, &answer, e);

	if (rc < 0)
		return rc;
	status = json_string_value(json_object_get(answer, "status"));
	snprintf(u->status, sizeof(u->status), "%s", status != NULL ? status : "unknown");
	u->running = json_is_true(json_object_get(answer, "running"));
	json_decref(answer);
	return 0;
}

static int wrong_process(const struct qemu *u, struct err *e)
{
	return err_set(e, ESRCH,
		"process %d listens on the QMP socket and is not the QEMU behind it (a manager "
		"made the socket, or QEMU is in a container); give the process with --pid",
		(int)u->pid);
}

/* The process whose threads are the guest's vCPUs is the QEMU, for certain. */
static int check_process(struct qemu *u, struct err *e)
{
	json_t *cpus = NULL, *cpu;
	size_t i;
	int rc = qmp_call(u->qmp, "query-cpus-fast", NULL, &cpus, e);

	json_array_foreach(cpus, i, cpu)
	{
		json_int_t thread = json_integer_value(json_object_get(cpu, "thread-id"));
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/task/%lld", (int)u->pid, (long long)thread);
		if (rc == 0 && access(path, F_OK) != 0)
			rc = wrong_process(u, e);
	}
	json_decref(cpus);
	return rc;
}

static int find_process(struct qemu *u, const struct vmm_where *where, struct err *e)
{
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);

	if (where->pid != 0)
		u->pid = where->pid;
	else if (getsockopt(qmp_fd(u->qmp), SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0)
		u->pid = cred.pid;
	if (u->pid <= 0)
		return err_set(e, ESRCH,
			"cannot tell which process serves %s; give QEMU's with --pid",
			where->socket);
	u->pidfd = (int)syscall(SYS_pidfd_open, u->pid, 0);
	if (u->pidfd < 0)
		return errno == ESRCH ? wrong_process(u, e)
				      : err_sys(e, errno, "cannot hold on to process %d", u->pid);
	/* A process that was named may be in another PID namespace than its own thread ids. */
	return where->pid != 0 ? 0 : check_process(u, e);
}

/* Name and accelerator: for people, and for the comparison. */
static int ask_who(struct qemu *u, struct err *e)
{
	json_t *answer = NULL;
	const char *name;
	int rc = qmp_call(u->qmp, "query-name", NULL, &answer, e);

	if (rc < 0)
		return rc;
	name = json_string_value(json_object_get(answer, "name"));
	if (name != NULL)
		snprintf(u->name, sizeof(u->name), "%.63s", name);
	else
		snprintf(u->name, sizeof(u->name), "QEMU %d", (int)u->pid);
	json_decref(answer);
	rc = qmp_call(u->qmp, "query-kvm", NULL, &answer, e);
	if (rc < 0)
		return rc;
	u->kvm = json_is_true(json_object_get(answer, "enabled"));
	json_decref(answer);
	return 0;
}

int qemu_open(struct qemu *u, const struct vmm_where *where, unsigned timeout_ms, int cancel_fd,
	struct err *e)
{
	int rc;

	memset(u, 0, sizeof(*u));
	u->pidfd = -1;
	u->by = where->by;
	rc = qmp_open(&u->qmp, where->socket, timeout_ms, cancel_fd, e);
	if (rc == 0)
		rc = find_process(u, where, e);
	if (rc == 0)
		rc = ask_who(u, e);
	if (rc == 0)
		rc = qemu_ask_status(u, e);
	return rc;
}

void qemu_close(struct qemu *u)
{
	qmp_close(u->qmp);
	close_fd(&u->pidfd);
	json_decref(u->plugged);
	free(u->files);
	memset(u, 0, sizeof(*u));
	u->pidfd = -1;
}
