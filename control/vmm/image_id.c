// SPDX-License-Identifier: BSD-3-Clause
// What makes an image the same on two hosts. Run by the driver's thread or by godwit doctor. Of a
// file on a shared file system it is its number there, when it was made, and which kind of file
// system; of a block device what its hardware or its volume group calls it all over the world.
// Where neither is there it says so: two disks taken for one cost the guest its disk.

#include "image_id.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "err.h"
#include "sysfs.h"

#define FILE_ID   "inode "
#define DEVICE_ID "block "
#define NAME_ID   "by its name"
#define NO_ID     "can't be told"

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* A server on the host itself is another one on the other host. */
static bool is_local(const char *address)
{
	static const char *const local[] = {"unix:", "+unix", "localhost", "127.", "[::1]"};

	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		if (strstr(address, local[i]) != NULL)
			return true;
	return false;
}

static enum image_id tell(enum image_id reach, const char *text, char id[IMAGE_ID_BYTES])
{
	snprintf(id, IMAGE_ID_BYTES, "%s", text);
	return reach;
}

enum image_id image_id_name(const char *name, char id[IMAGE_ID_BYTES])
{
	/* null-co and null-aio hold nothing that could differ. */
	static const char *const network[] = {"nbd:", "nbd+", "rbd:", "iscsi:", "iscsi+",
		"nfs:", "ssh:", "http:", "https:", "ftp:", "ftps:", "gluster:", "gluster+",
		"null-"};

	for (size_t i = 0; i < sizeof(network) / sizeof(network[0]); i++)
		if (begins(name, network[i]) && !is_local(name))
			return tell(IMAGE_ID_NAME, NAME_ID, id);
	return tell(IMAGE_ID_NONE, NO_ID, id);
}

/* Two file systems made alike have files of the same number: it is the time that tells them apart,
 * and not all of them keep it. */
static enum image_id id_of_file(int fd, const struct statx *sx, char id[IMAGE_ID_BYTES])
{
	struct statfs fs;

	if ((sx->stx_mask & STATX_BTIME) == 0 || fstatfs(fd, &fs) < 0)
		return tell(IMAGE_ID_NONE, NO_ID, id);
	snprintf(id, IMAGE_ID_BYTES, FILE_ID "%llu, file system 0x%llx, made %lld.%09u",
		(unsigned long long)sx->stx_ino, (unsigned long long)fs.f_type,
		(long long)sx->stx_btime.tv_sec, sx->stx_btime.tv_nsec);
	return IMAGE_ID_ITSELF;
}

static bool look(int fd, struct statx *sx)
{
	return fd >= 0 &&
	       statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME | STATX_TYPE, sx) == 0;
}

/* A loop device: the file behind it. */
static enum image_id id_of_loop(const char *dev, char id[IMAGE_ID_BYTES])
{
	char path[SYSFS_TEXT], behind[IMAGE_ID_BYTES];
	_cleanup_(close_fd) int fd = -1;
	struct statx sx;

	if (sysfs_text(path, "%s/loop/backing_file", dev) < 0)
		return IMAGE_ID_NONE;
	fd = open(path, O_PATH | O_CLOEXEC);
	if (!look(fd, &sx) || !S_ISREG(sx.stx_mode) ||
		id_of_file(fd, &sx, behind) != IMAGE_ID_ITSELF)
		return IMAGE_ID_NONE;
	snprintf(id, IMAGE_ID_BYTES, DEVICE_ID "loop from %lld of %.200s",
		(long long)sysfs_number(0, "%s/loop/offset", dev), behind);
	return IMAGE_ID_ITSELF;
}

/* A volume's own number; other kinds of the mapper's devices have but a name there, or nothing. */
static bool is_volume(const char *uuid)
{
	unsigned part;
	int n = 0;

	if (sscanf(uuid, "part%u-%n", &part, &n) == 1)
		uuid += n;
	return begins(uuid, "LVM-") || begins(uuid, "mpath-") || begins(uuid, "CRYPT-LUKS");
}

/* What a maker gave; t10. is left out: models of virtual disks share theirs. */
static bool is_wwid(const char *wwid)
{
	return begins(wwid, "naa.") || begins(wwid, "eui.") || begins(wwid, "uuid.") ||
	       begins(wwid, "nvme.");
}

static enum image_id id_of_block(const char *dev, char id[IMAGE_ID_BYTES])
{
	static const char *const wwids[] = {"wwid", "device/wwid"};
	int64_t part = sysfs_number(0, "%s/partition", dev);
	const char *disk = part != 0 ? "/.." : "";
	char text[SYSFS_TEXT];

	if (sysfs_text(text, "%s/dm/uuid", dev) == 0 && is_volume(text)) {
		snprintf(id, IMAGE_ID_BYTES, DEVICE_ID "%s", text);
		return IMAGE_ID_ITSELF;
	}
	for (size_t i = 0; i < sizeof(wwids) / sizeof(wwids[0]); i++) {
		if (sysfs_text(text, "%s%s/%s", dev, disk, wwids[i]) < 0 || !is_wwid(text))
			continue;
		snprintf(id, IMAGE_ID_BYTES, DEVICE_ID "%s part %lld", text, (long long)part);
		return IMAGE_ID_ITSELF;
	}
	return id_of_loop(dev, id);
}

enum image_id image_id_file(int fd, const char *sys, char id[IMAGE_ID_BYTES])
{
	char dev[SYSFS_TEXT];
	struct statx sx;
	struct stat st;

	tell(IMAGE_ID_NONE, NO_ID, id);
	if (!look(fd, &sx))
		return IMAGE_ID_NONE;
	if (S_ISREG(sx.stx_mode))
		return id_of_file(fd, &sx, id);
	if (!S_ISBLK(sx.stx_mode) || fstat(fd, &st) < 0)
		return IMAGE_ID_NONE;
	snprintf(dev, sizeof(dev), "%.180s/dev/block/%u:%u", sys, major(st.st_rdev),
		minor(st.st_rdev));
	return id_of_block(dev, id);
}

enum image_id image_id_reach(const char *id)
{
	if (begins(id, FILE_ID) || begins(id, DEVICE_ID))
		return IMAGE_ID_ITSELF;
	return strcmp(id, NAME_ID) == 0 ? IMAGE_ID_NAME : IMAGE_ID_NONE;
}
