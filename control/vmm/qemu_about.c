// SPDX-License-Identifier: BSD-3-Clause
// What a QEMU is made of, for the other side to compare before anything is touched: machine, CPU,
// memory, devices, disks. Run by the driver's thread; the comparison is pure. What is not compared
// here QEMU itself compares when it loads the device state, before the commit.

#include "qemu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_disk.h"

#define FEATURES_BYTES 2048
#define DEVICES_MOST   512u

static int add_property(
	struct qemu *u, json_t *about, const char *key, const char *property, struct err *e)
{
	json_t *value = NULL;
	int rc = qemu_get(u->qmp, "/machine", property, &value, e);

	if (rc < 0)
		return rc;
	json_object_set_new(about, key, value);
	return 0;
}

/* CPUID as the guest sees it, "EAX.1.0=... ", registers that are 0 left out. */
static json_t *cpu_features(const json_t *words)
{
	char text[FEATURES_BYTES] = "";
	const json_t *w;
	size_t i, at = 0;

	json_array_foreach((json_t *)words, i, w)
	{
		json_int_t bits = json_integer_value(json_object_get(w, "features"));
		const char *reg = json_string_value(json_object_get(w, "cpuid-register"));

		if (bits == 0 || reg == NULL || at >= sizeof(text))
			continue;
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s.%llx.%llx=%llx ", reg,
			(long long)json_integer_value(json_object_get(w, "cpuid-input-eax")),
			(long long)json_integer_value(json_object_get(w, "cpuid-input-ecx")),
			(long long)bits);
	}
	return json_string(text);
}

static int add_cpus(struct qemu *u, json_t *about, struct err *e)
{
	json_t *cpus = NULL, *type = NULL, *words = NULL;
	const char *path;
	int rc = qmp_call(u->qmp, "query-cpus-fast", NULL, &cpus, e);

	if (rc < 0)
		return rc;
	path = json_string_value(json_object_get(json_array_get(cpus, 0), "qom-path"));
	json_object_set_new(about, "cpus", json_integer((json_int_t)json_array_size(cpus)));
	if (path == NULL)
		rc = err_set(e, EPROTO, "QEMU tells of no CPU");
	else
		rc = qemu_get(u->qmp, path, "type", &type, e);
	if (rc == 0)
		json_object_set_new(about, "cpu", type);
	/* Only x86 has it. */
	if (rc == 0 && qemu_get(u->qmp, path, "feature-words", &words, NULL) == 0) {
		json_object_set_new(about, "cpu_features", cpu_features(words));
		json_decref(words);
	}
	json_decref(cpus);
	return rc;
}

static int add_backends(struct qemu *u, json_t *about)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < u->nram; i++)
		json_array_append_new(list, json_sprintf("%s at 0x%llx, %llu bytes", u->ram[i].id,
						    (unsigned long long)u->ram[i].gpa,
						    (unsigned long long)u->ram[i].bytes));
	json_object_set_new(about, "backends", list);
	return 0;
}

/* "vdisk0 virtio-blk-pci 24": a device, its type, its place on its bus. */
static int add_devices_below(
	struct qemu *u, const char *folder, bool named, json_t *devices, struct err *e)
{
	json_t *children, *type;
	const char *name;
	int rc = qemu_children(u->qmp, folder, &children, e);

	if (rc < 0)
		return rc;
	json_object_foreach(children, name, type)
	{
		char path[256], *place = NULL;
		json_t *addr = NULL;

		if (json_array_size(devices) >= DEVICES_MOST)
			break;
		snprintf(path, sizeof(path), "%s/%s", folder, name);
		/* Only PCI devices have it. */
		if (qemu_get(u->qmp, path, "addr", &addr, NULL) == 0)
			place = json_dumps(addr, JSON_ENCODE_ANY);
		json_array_append_new(
			devices, json_sprintf("%s %s %s", named ? name : "-",
					 json_string_value(type), place != NULL ? place : "-"));
		free(place);
		json_decref(addr);
	}
	json_decref(children);
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* QEMU lists objects in any order. */
static json_t *sorted(json_t *list)
{
	size_t n = json_array_size(list);
	const char **texts = calloc(n + 1, sizeof(*texts));
	json_t *out = json_array();

	for (size_t i = 0; i < n; i++)
		texts[i] = json_string_value(json_array_get(list, i));
	qsort(texts, n, sizeof(*texts), by_text);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(out, json_string(texts[i]));
	free(texts);
	json_decref(list);
	return out;
}

static int add_devices(struct qemu *u, json_t *about, struct err *e)
{
	json_t *devices = json_array();
	int rc = add_devices_below(u, QEMU_MACHINE "/peripheral", true, devices, e);

	if (rc == 0)
		rc = add_devices_below(u, QEMU_MACHINE "/peripheral-anon", false, devices, e);
	json_object_set_new(about, "devices", sorted(devices));
	return rc;
}

int qemu_describe(struct qemu *u, json_t **about, struct err *e)
{
	unsigned version = qmp_version(u->qmp);
	int rc;

	*about = json_pack("{s:o, s:s}", "qemu",
		json_sprintf("%u.%u.%u", version / 10000, version / 100 % 100, version % 100),
		"accelerator", u->kvm ? "kvm" : "none");
	rc = add_property(u, *about, "machine", "type", e);
	/* Since 7.1; before, the backends tell nearly the same. */
	if (rc == 0 && qmp_version(u->qmp) >= 70100)
		rc = add_property(u, *about, "memory", "memory", e);
	if (rc == 0)
		rc = add_cpus(u, *about, e);
	if (rc == 0)
		rc = add_backends(u, *about);
	if (rc == 0)
		rc = add_devices(u, *about, e);
	if (rc == 0)
		rc = qemu_describe_disks(u, *about, e);
	return rc;
}

static int differs(const char *what, const json_t *there, const json_t *here, struct err *e)
{
	char *a = there != NULL ? json_dumps(there, JSON_ENCODE_ANY) : NULL;
	char *b = here != NULL ? json_dumps(here, JSON_ENCODE_ANY) : NULL;
	int rc = err_set(e, EINVAL,
		"the two QEMUs differ in %s: %.90s at the source, %.90s at the target; start the "
		"target with the source's options",
		what, a != NULL ? a : "none", b != NULL ? b : "none");

	free(a);
	free(b);
	return rc;
}

/* Names the first entry that only one of them has. */
static int compare_lists(const char *what, const json_t *there, const json_t *here, struct err *e)
{
	size_t n = json_array_size(there), m = json_array_size(here);

	if ((there == NULL && here == NULL) || json_equal(there, here))
		return 0;
	for (size_t i = 0; i < n || i < m; i++) {
		const json_t *a = json_array_get(there, i), *b = json_array_get(here, i);

		if (a == NULL || b == NULL || !json_equal(a, b))
			return differs(what, a, b, e);
	}
	return differs(what, there, here, e);
}

int qemu_compare(const json_t *theirs, const json_t *here, struct err *e)
{
	static const struct {
		const char *key, *what;
	} rows[] = {
		{"machine", "the machine type"},
		{"accelerator", "the accelerator"},
		{"cpu", "the CPU model"},
		{"cpus", "the number of CPUs"},
		{"cpu_features", "the features of the CPU"},
		{"memory", "the size of the memory"},
		{"backends", "a memory backend"},
		{"devices", "a device"},
	};

	if (!json_is_object(theirs) || !json_is_object(here))
		return err_set(e, EINVAL, "only one of the two sides is a QEMU");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const json_t *a = json_object_get(theirs, rows[i].key);
		const json_t *b = json_object_get(here, rows[i].key);
		int rc = compare_lists(rows[i].what, a, b, e);

		if (rc < 0)
			return rc;
	}
	return qemu_compare_disks(json_object_get(theirs, "disks"), json_object_get(here, "disks"),
		json_is_true(json_object_get(theirs, "shared_disks")), e);
}
