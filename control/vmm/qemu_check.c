// SPDX-License-Identifier: BSD-3-Clause
// What stands against moving a QEMU's guest, each with its cure: godwit doctor prints it, and a
// migration refuses for the same reasons before it touches anything. A device that may write guest
// memory where no one sees it is a refusal with its name (law 2). Asks only.

#include "qemu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_disk.h"

#define NAMED_FILES_ONLY 80100 /* from this version on, x-ignore-shared leaves out files only */

static void check_ram(const struct qemu *u, struct findings *f)
{
	if (u->nram == 0)
		finding_add(f, "ram-unknown",
			"start QEMU with -machine memory-backend=ID and -object "
			"memory-backend-file,id=ID,share=on,mem-path=...",
			"QEMU names no memory backend that the guest uses");
	for (unsigned i = 0; i < u->nram; i++) {
		const struct qemu_ram *r = &u->ram[i];

		if (!r->share)
			finding_add(f, "ram-private",
				"start QEMU with -object memory-backend-file,share=on,... for it",
				"RAM %s (%s) is not shared: nobody but QEMU can read it", r->id,
				r->type);
		else if (r->file < 0)
			finding_add(f, "ram-hidden", "give the QEMU's own process with --pid",
				"RAM %s is not mapped by process %d at the address that QEMU tells",
				r->id, (int)u->pid);
		else if (qmp_version(u->qmp) >= NAMED_FILES_ONLY &&
			 strcmp(r->type, "memory-backend-file") != 0)
			finding_add(f, "ram-unnamed",
				"use memory-backend-file with share=on for it",
				"RAM %s (%s): this QEMU leaves only files out of its device state",
				r->id, r->type);
	}
}

static bool has_capability(const json_t *list, const char *name)
{
	const json_t *c;
	size_t i;

	json_array_foreach((json_t *)list, i, c)
	{
		const char *is = json_string_value(json_object_get(c, "capability"));

		if (is != NULL && strcmp(is, name) == 0)
			return true;
	}
	return false;
}

static int check_migration(struct qemu *u, struct findings *f, struct err *e)
{
	json_t *caps = NULL, *now = NULL, *reason;
	const char *status;
	size_t i;
	int rc = qmp_call(u->qmp, "query-migrate-capabilities", NULL, &caps, e);

	if (rc == 0 && !has_capability(caps, "x-ignore-shared"))
		finding_add(f, "no-ignore-shared", "use QEMU 4.0 or newer",
			"this QEMU can't save its devices without the RAM (no x-ignore-shared)");
	json_decref(caps);
	if (rc == 0)
		rc = qmp_call(u->qmp, "query-migrate", NULL, &now, e);
	json_array_foreach(json_object_get(now, "blocked-reasons"), i, reason)
	{
		finding_add(f, "blocked", "remove what QEMU names", "QEMU itself refuses: %.200s",
			json_string_value(reason) != NULL ? json_string_value(reason) : "?");
	}
	status = json_string_value(json_object_get(now, "status"));
	if (status != NULL && strcmp(status, "none") != 0 && strcmp(status, "completed") != 0 &&
		strcmp(status, "failed") != 0 && strcmp(status, "cancelled") != 0)
		finding_add(f, "migrating", "wait for its end, or cancel it",
			"QEMU is in a migration of its own (%.40s)", status);
	json_decref(now);
	return rc;
}

/* Types of devices that write guest memory past its page tables, or share it with others. The first
 * row that fits counts. */
static const struct {
	const char *prefix, *what, *cure;
} unseen[] = {
	{"vfio-user-", "another process writes guest memory", "unplug it for the migration"},
	{"vfio-", "a device of the host writes guest memory by DMA", "unplug it for the migration"},
	{"vhost-user-", "another process writes guest memory", "use a device that QEMU emulates"},
	{"vhost-scsi", "the kernel writes into pinned pages", "use virtio-scsi with a QEMU disk"},
	{"vhost-vdpa", "a device of the host writes guest memory by DMA",
		"use virtio-net or virtio-blk"},
	{"x-pci-proxy", "another process writes guest memory", "use a device that QEMU emulates"},
	{"scsi-block", "SCSI commands go through, and read into pinned pages", "use scsi-hd"},
	{"ivshmem", "other guests share its memory", "unplug it for the migration"},
	{"pvrdma", "a card writes guest memory by DMA", "use virtio-net"},
	{"cxl-type3", "its memory is in no backend that is tracked", "start the guest without it"},
	{"nvdimm", "its memory stays when QEMU ends", "start the guest without it"},
	{"virtio-pmem", "its memory stays when QEMU ends", "start the guest without it"},
	{"virtio-mem", "parts of its memory come and go", "use pc-dimm for memory that is plugged"},
	{"sgx-epc", "its memory can't be read", "start the guest without it"},
};

static int check_devices_below(
	struct qemu *u, const char *folder, struct findings *f, struct err *e)
{
	json_t *children = NULL, *type;
	const char *name;
	int rc = qemu_children(u->qmp, folder, &children, e);

	json_object_foreach(children, name, type)
	{
		const char *is = json_string_value(type);

		u->balloon |= strstr(is, "balloon") != NULL;
		for (size_t k = 0; k < sizeof(unseen) / sizeof(unseen[0]); k++)
			if (strncmp(is, unseen[k].prefix, strlen(unseen[k].prefix)) == 0) {
				finding_add(f, "device", unseen[k].cure, "device %.60s (%.40s): %s",
					name, is, unseen[k].what);
				break;
			}
	}
	json_decref(children);
	return rc;
}

static int check_devices(struct qemu *u, struct findings *f, struct err *e)
{
	int rc;

	u->balloon = false;
	rc = check_devices_below(u, QEMU_MACHINE "/peripheral", f, e);

	if (rc == 0)
		rc = check_devices_below(u, QEMU_MACHINE "/peripheral-anon", f, e);
	return rc == 0 ? check_devices_below(u, QEMU_MACHINE "/unattached", f, e) : rc;
}

static int check_netdevs(struct qemu *u, struct findings *f, struct err *e)
{
	char *text = NULL, *line, *save = NULL;
	int rc = qmp_human(u->qmp, "info network", &text, e);

	if (rc < 0)
		return rc;
	for (line = strtok_r(text, "\r\n", &save); line != NULL;
		line = strtok_r(NULL, "\r\n", &save))
		if (strstr(line, "type=vhost-user") != NULL ||
			strstr(line, "type=vhost-vdpa") != NULL)
			finding_add(f, "netdev", "use a tap device with vhost=off",
				"a network back end writes guest memory where nothing sees it: "
				"%.120s",
				line);
	free(text);
	return 0;
}

/* Memory that is encrypted, or that only the guest may see. */
static int check_confidential(struct qemu *u, struct findings *f, struct err *e)
{
	json_t *value = NULL;
	const char *text;
	int rc = qemu_get(u->qmp, "/machine", "confidential-guest-support", &value, e);

	if (rc == -EREMOTEIO)
		return 0; /* a machine that knows nothing of it */
	text = json_string_value(value);
	if (text != NULL && text[0] != '\0')
		finding_add(f, "confidential", "only its own migration protocol can move it",
			"the guest's memory is encrypted or private (%.100s: SEV, TDX or the like)",
			text);
	json_decref(value);
	return rc;
}

#define CR4_VMXE  (UINT64_C(1) << 13)
#define EFER_SVME (UINT64_C(1) << 12)

/* KVM writes control pages of nested guests through mappings of its own. */
int qemu_check_nested(struct qemu *u, struct err *e)
{
	char *text = NULL;
	int rc = u->kvm ? qmp_human(u->qmp, "info registers -a", &text, e) : 0;

	if (text != NULL && (qemu_register_has(text, "CR4", CR4_VMXE) ||
				    qemu_register_has(text, "EFER", EFER_SVME)))
		rc = err_set(e, ENOTSUP,
			"the guest runs guests of its own (virtualisation is switched on in it)");
	free(text);
	return rc;
}

static int check_nested(struct qemu *u, struct findings *f, struct err *e)
{
	int rc = qemu_check_nested(u, e);

	if (rc != -ENOTSUP)
		return rc;
	finding_add(f, "nested", "unload kvm_intel or kvm_amd inside the guest", "%s", e->text);
	return 0;
}

static bool is_found(const struct findings *f, const char *name)
{
	for (unsigned i = 0; i < f->n; i++)
		if (strcmp(f->f[i].name, name) == 0)
			return true;
	return false;
}

/* What stands against tracking the RAM itself; other files that QEMU maps are its own affair. */
int qemu_check_tracking(const struct qemu *u, bool direct, struct findings *f, struct err *e)
{
	struct attach_file *files = calloc(u->nram + 1, sizeof(*files));
	struct findings *more = calloc(1, sizeof(*more));
	unsigned n = 0;

	if (files == NULL || more == NULL) {
		free(files);
		free(more);
		return err_set(e, ENOMEM, "out of memory");
	}
	for (unsigned i = 0; i < u->nram; i++)
		if (u->ram[i].file >= 0)
			files[n++] = u->files[u->ram[i].file];
	attach_check(u->by, u->pid, files, n, more);
	for (unsigned i = 0; i < more->n; i++)
		if (direct || strcmp(more->f[i].name, "direct-io") != 0)
			finding_add(f, more->f[i].name, more->f[i].cure, "%s", more->f[i].text);
	free(files);
	free(more);
	return 0;
}

static void check_state(const struct qemu *u, struct findings *f)
{
	static const char *const good[] = {"running", "paused", "prelaunch", "inmigrate"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (strcmp(u->status, good[i]) == 0)
			return;
	if (strcmp(u->status, "postmigrate") == 0)
		finding_add(f, "moved",
			"end this QEMU if the guest runs elsewhere; otherwise say cont",
			"the guest was migrated from here already");
	else
		finding_add(f, "state", "resume, wake or end the guest first",
			"the guest is neither running nor paused (%s)", u->status);
}

int qemu_check(struct qemu *u, const struct vmm_where *where, struct findings *f, struct err *e)
{
	bool incoming = strcmp(u->status, "inmigrate") == 0;
	int rc;

	check_state(u, f);
	check_ram(u, f);
	rc = check_migration(u, f, e);
	/* What writes memory matters where it is tracked. */
	if (incoming || rc < 0)
		return rc;
	rc = qemu_check_disks(u, where->cached_disks, f, e);
	if (rc == 0)
		rc = check_devices(u, f, e);
	if (rc == 0)
		rc = check_netdevs(u, f, e);
	if (rc == 0)
		rc = check_confidential(u, f, e);
	if (rc == 0)
		rc = check_nested(u, f, e);
	/* Disks that are told of above, or are to be cured, are not told of again. */
	return rc == 0 ? qemu_check_tracking(
				 u, !where->cached_disks && !is_found(f, "disk-direct"), f, e)
		       : rc;
}
