// SPDX-License-Identifier: BSD-3-Clause
// What this daemon can do, told in hello, and whether the other one can do it too. Run by the
// control loop.
//
// A version goes up with each change that the other side would misread. Names that only one side
// knows are no error: what matters is what a session wants to use, and that is refused by its name.

#include "can.h"

#include <errno.h>
#include <string.h>

#include "codec.h"
#include "frame.h"
#include "link_rdma.h"
#include "packet.h"
#include "seal.h"

#define CAN_NAMES_MOST   64u
#define CAN_NAME_BYTES   32u
#define CAN_VERSION_MOST 65535

static const char *const lists[] = {"codecs", "seals", "links", "features"};

/* A session that wants one which the other side does not name is refused. */
static const char *const features[] = {
	"balloon", /* the bitmap of the balloon travels in blobs */
	"keep",    /* of prepare: memory of the target keeps what it held */
	"resume",  /* after a lost network */
	"verify",  /* digests of all memory */
};

static void put(json_t *list, const char *name, int version)
{
	json_object_set_new(list, name, json_integer(version));
}

json_t *can_tell(bool nic, bool rdma)
{
	json_t *codecs = json_object(), *seals = json_object(), *links = json_object();
	json_t *others = json_object();

	for (const struct codec_ops *const *c = codec_table; *c != NULL; c++)
		put(codecs, (*c)->name, 1);
	put(seals, "none", 1);
	if (seal_best("aes-256-gcm") != NULL)
		put(seals, "aes-256-gcm", 1);
	put(links, "tcp", FRAME_VERSION);
	if (nic)
		put(links, "nic", PACKET_VERSION);
	if (rdma)
		put(links, "rdma", LINK_RDMA_VERSION);
	for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++)
		put(others, features[i], 1);
	return json_pack("{s:o, s:o, s:o, s:o}", "codecs", codecs, "seals", seals, "links", links,
		"features", others);
}

int can_read(const json_t *hello, struct err *e)
{
	json_t *can = json_object_get(hello, "can");

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		json_t *list = json_object_get(can, lists[i]), *version;
		const char *name;

		if (!json_is_object(list) || json_object_size(list) > CAN_NAMES_MOST)
			return err_set(e, EPROTO,
				"message from the other daemon: it does not tell in hello what %s "
				"it can; install the same version on both hosts",
				lists[i]);
		json_object_foreach(list, name, version)
		{
			if (strlen(name) < CAN_NAME_BYTES && json_is_integer(version) &&
				json_integer_value(version) > 0 &&
				json_integer_value(version) <= CAN_VERSION_MOST)
				continue;
			return err_set(e, EPROTO,
				"message from the other daemon: %.*s in %s of what it can has no "
				"version from 1 to %d",
				(int)CAN_NAME_BYTES, name, lists[i], CAN_VERSION_MOST);
		}
	}
	return 0;
}

static json_int_t version_of(const json_t *can, const char *list, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(can, list), name));
}

int can_need(const json_t *ours, bool source, const json_t *hello, const char *list,
	const char *name, struct err *e)
{
	json_int_t here = version_of(ours, list, name);
	json_int_t there = version_of(json_object_get(hello, "can"), list, name);
	int kind = (int)strlen(list) - 1; /* one of them: "codec" */

	if (here != 0 && here == there)
		return 0;
	if (here != 0 && there != 0)
		return err_set(e, ENOTSUP,
			"the target's Godwit has %.*s %s in version %d, and the source's in "
			"version %d; install the same version on both hosts",
			kind, list, name, (int)(source ? there : here),
			(int)(source ? here : there));
	return err_set(e, ENOTSUP,
		"the %s's Godwit has no %.*s %.*s; ask for another, or install the same version "
		"on both hosts",
		(here == 0) == source ? "source" : "target", kind, list, (int)CAN_NAME_BYTES, name);
}
