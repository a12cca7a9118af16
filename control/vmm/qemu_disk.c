// SPDX-License-Identifier: BSD-3-Clause
// The disks of a QEMU's guest. Run by the driver's thread or by godwit doctor. What makes an image
// the same on two hosts, image_id.c tells; what it can't tell is refused, unless the operator says
// that the disks are shared.

#include "qemu_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_id.h"

#define CHAIN_MOST 64u

/* Of one image, as one text that both hosts make alike. */
static json_t *identity(const struct qemu *u, const char *name)
{
	char id[IMAGE_ID_BYTES];
	_cleanup_(close_fd) int fd = -1;

	if (image_id_name(name, id) == IMAGE_ID_NONE) {
		fd = attach_path(u->by, u->pid, name);
		image_id_file(fd, "/sys", id);
	}
	return json_string(id);
}

/* An image and those behind it. */
static json_t *chain_of(const struct qemu *u, const json_t *image)
{
	json_t *chain = json_array();

	for (unsigned i = 0; image != NULL && i < CHAIN_MOST; i++) {
		const char *name = json_string_value(json_object_get(image, "filename"));

		if (name != NULL)
			json_array_append_new(chain, json_pack("{s:s, s:o}", "name", name,
							     "identity", identity(u, name)));
		image = json_object_get(image, "backing-image");
	}
	return chain;
}

int qemu_describe_disks(struct qemu *u, json_t *about, struct err *e)
{
	json_t *blocks = NULL, *block, *disks = json_object();
	size_t i;
	int rc = qmp_call(u->qmp, "query-block", NULL, &blocks, e);

	json_array_foreach(blocks, i, block)
	{
		const json_t *in = json_object_get(block, "inserted");
		const char *at = json_string_value(json_object_get(block, "qdev"));

		/* Without a device no guest sees it; without a medium there is nothing to compare.
		 */
		if (at != NULL && in != NULL)
			json_object_set_new(disks, at, chain_of(u, json_object_get(in, "image")));
	}
	json_decref(blocks);
	json_object_set_new(about, "disks", disks);
	return rc;
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text != NULL ? text : "none";
}

static int compare_image(
	const char *disk, const json_t *there, const json_t *here, bool shared, struct err *e)
{
	const char *id = text_of(there, "identity"), *name = text_of(there, "name");
	enum image_id reach = image_id_reach(id);
	bool same = strcmp(id, text_of(here, "identity")) == 0;

	/* One image may be mounted at two places. */
	if (reach != IMAGE_ID_ITSELF)
		same = same && strcmp(name, text_of(here, "name")) == 0;
	if (!same)
		return err_set(e, EINVAL,
			"disk %.40s: not the same image, give both the one on shared storage: "
			"%.40s "
			"(%.44s) at the source, %.40s (%.44s) at the target",
			disk, name, id, text_of(here, "name"), text_of(here, "identity"));
	if (reach == IMAGE_ID_NONE && !shared)
		return err_set(e, EINVAL,
			"disk %.60s: whether %.80s is the same image on both hosts can't be told; "
			"say --shared-disks if it is",
			disk, name);
	return 0;
}

static int compare_chain(
	const char *disk, const json_t *there, const json_t *here, bool shared, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && (i < json_array_size(there) || i < json_array_size(here));
		i++)
		rc = compare_image(
			disk, json_array_get(there, i), json_array_get(here, i), shared, e);
	return rc;
}

int qemu_compare_disks(const json_t *theirs, const json_t *here, bool shared, struct err *e)
{
	const char *disk;
	json_t *chain;

	json_object_foreach((json_t *)theirs, disk, chain)
	{
		const json_t *ours = json_object_get(here, disk);
		int rc;

		if (ours == NULL)
			return err_set(e, EINVAL,
				"disk %.80s is not there at the target; start its QEMU with the "
				"same "
				"disks",
				disk);
		rc = compare_chain(disk, chain, ours, shared, e);
		if (rc < 0)
			return rc;
	}
	json_object_foreach((json_t *)here, disk, chain)
	{
		if (json_object_get(theirs, disk) == NULL)
			return err_set(e, EINVAL,
				"disk %.80s is not there at the source; start the target's QEMU "
				"with "
				"the same disks",
				disk);
	}
	return 0;
}

static const char *changed_disk(const json_t *these, const json_t *others)
{
	const char *disk;
	json_t *chain;

	json_object_foreach((json_t *)these, disk, chain)
	{
		if (!json_equal(chain, json_object_get(others, disk)))
			return disk;
	}
	return NULL;
}

int qemu_check_disks_stay(struct qemu *u, const json_t *disks, struct err *e)
{
	json_t *now = json_object();
	const char *disk = NULL;
	int rc = qemu_describe_disks(u, now, e);

	if (rc == 0)
		disk = changed_disk(json_object_get(now, "disks"), disks);
	if (rc == 0 && disk == NULL)
		disk = changed_disk(disks, json_object_get(now, "disks"));
	if (disk != NULL)
		rc = err_set(e, EBUSY,
			"disk %.80s came, went or has another image since both sides' were "
			"compared; migrate again",
			disk);
	json_decref(now);
	return rc;
}

/* Drivers whose reads come in by system calls that fault on write-protected pages, or by a copy
 * that QEMU itself makes. */
static bool is_seen(const char *driver)
{
	static const char *const seen[] = {"file", "host_device", "host_cdrom", "raw", "qcow2",
		"qcow", "qed", "vmdk", "vdi", "vpc", "vhdx", "parallels", "bochs", "cloop", "dmg",
		"luks", "throttle", "copy-on-read", "copy-before-write", "mirror_top", "commit_top",
		"backup-top", "preallocate", "quorum", "blkdebug", "blklogwrites", "blkverify",
		"blkreplay", "snapshot-access", "compress", "null-co", "null-aio", "vvfat", "nbd",
		"nfs", "iscsi", "rbd", "ssh", "http", "https", "ftp", "ftps", "gluster",
		"replication"};

	for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++)
		if (strcmp(driver, seen[i]) == 0)
			return true;
	return false;
}

static bool is_direct(const json_t *node)
{
	return json_is_true(json_object_get(json_object_get(node, "cache"), "direct"));
}

/* All nodes, in one level: since 5.0 that has to be asked for. */
static int ask_nodes(struct qemu *u, json_t **nodes, struct err *e)
{
	json_t *flat = qmp_version(u->qmp) >= 50000 ? json_pack("{s:b}", "flat", 1) : NULL;

	return qmp_call(u->qmp, "query-named-block-nodes", flat, nodes, e);
}

int qemu_check_disks(struct qemu *u, bool cure, struct findings *f, struct err *e)
{
	json_t *nodes = NULL, *node;
	size_t i;
	int rc = ask_nodes(u, &nodes, e);

	json_array_foreach(nodes, i, node)
	{
		const char *driver = text_of(node, "drv"), *file = text_of(node, "file");

		if (!is_seen(driver))
			finding_add(f, "disk-driver", "use a disk of another driver",
				"block node %.60s: driver %.40s may write guest memory where "
				"nothing "
				"sees it",
				text_of(node, "node-name"), driver);
		if (is_direct(node) && !cure)
			finding_add(f, "disk-direct",
				"say --disk-cache writeback: the disk then uses the page cache "
				"while "
				"it migrates; or start QEMU with cache.direct=off",
				"disk %.100s bypasses the page cache (cache.direct=on): its reads "
				"write guest memory where nothing sees it",
				file);
	}
	json_decref(nodes);
	return rc;
}

int qemu_direct_nodes(struct qemu *u, json_t **names, struct err *e)
{
	json_t *nodes = NULL, *node;
	size_t i;
	int rc = ask_nodes(u, &nodes, e);

	*names = json_array();
	json_array_foreach(nodes, i, node)
	{
		if (is_direct(node))
			json_array_append(*names, json_object_get(node, "node-name"));
	}
	json_decref(nodes);
	return rc;
}

void qemu_direct_line(const char *node, bool direct, char line[QEMU_DIRECT_LINE])
{
	/* QMP's blockdev-reopen would reset every option that is not repeated, and QEMU does not
	 * tell them all; the monitor's own reopen keeps them. */
	snprintf(line, QEMU_DIRECT_LINE, "qemu-io %.63s \"reopen -o cache.direct=%s\"", node,
		direct ? "on" : "off");
}

static int reopen(struct qemu *u, const char *node, bool direct, struct err *e)
{
	char line[QEMU_DIRECT_LINE], *text = NULL;
	int rc;

	qemu_direct_line(node, direct, line);
	rc = qmp_human(u->qmp, line, &text, e);
	if (rc == 0 && text[0] != '\0')
		rc = err_set(e, EIO,
			"block node %.63s can't be reopened with cache.direct=%s: %.140s", node,
			direct ? "on" : "off", text);
	free(text);
	return rc;
}

static bool has_node(const json_t *nodes, const char *name)
{
	const json_t *node;
	size_t i;

	json_array_foreach((json_t *)nodes, i, node)
	{
		if (strcmp(text_of(node, "node-name"), name) == 0)
			return true;
	}
	return false;
}

/* One that went meanwhile needs nothing; what one refuses is no reason to leave the others. */
static int put_back_direct(struct qemu *u, const json_t *names, struct err *e)
{
	json_t *nodes = NULL, *name;
	struct err why;
	size_t i;
	int rc = ask_nodes(u, &nodes, e);

	json_array_foreach((json_t *)names, i, name)
	{
		const char *node = json_string_value(name);

		if (node == NULL || !has_node(nodes, node))
			continue;
		if (reopen(u, node, true, &why) < 0 && rc == 0)
			rc = err_set(e, why.errnum, "%s", why.text);
	}
	json_decref(nodes);
	return rc;
}

int qemu_set_direct(struct qemu *u, const json_t *names, bool direct, struct err *e)
{
	json_t *name, *left = NULL;
	size_t i;
	int rc = 0;

	if (direct)
		return put_back_direct(u, names, e);
	json_array_foreach((json_t *)names, i, name)
	{
		if (rc == 0)
			rc = reopen(u, json_string_value(name), false, e);
	}
	if (rc < 0 || json_array_size(names) == 0)
		return rc;
	rc = qemu_direct_nodes(u, &left, e);
	if (rc == 0 && json_array_size(left) > 0)
		rc = err_set(e, EIO, "block node %.63s still bypasses the page cache",
			json_string_value(json_array_get(left, 0)));
	json_decref(left);
	return rc;
}
