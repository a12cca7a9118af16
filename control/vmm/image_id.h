/* SPDX-License-Identifier: BSD-3-Clause */
/* What makes a disk's image the same on two hosts: a text that both make alike. Two images with one
 * name are not the same for that: each host has a /dev/vg0/web. */
#ifndef GODWIT_CONTROL_IMAGE_ID_H
#define GODWIT_CONTROL_IMAGE_ID_H

#include <stdbool.h>

#define IMAGE_ID_BYTES 320u

/* How far an identity reaches. */
enum image_id {
	IMAGE_ID_NONE,  /* none can be told: a person has to say that it is shared */
	IMAGE_ID_NAME,  /* the same where its name is: an address on the network */
	IMAGE_ID_ITSELF /* the same wherever it is called what */
};

/* Of a name that QEMU tells: IMAGE_ID_NAME, or IMAGE_ID_NONE: look at the file. Pure. */
enum image_id image_id_name(const char *name, char id[IMAGE_ID_BYTES]);
/* Of a file or block device, opened at least by O_PATH; fd < 0: it could not be. sys: the root of
 * what /sys tells, "/sys". */
enum image_id image_id_file(int fd, const char *sys, char id[IMAGE_ID_BYTES]);
/* What an identity is that image_id_name() or image_id_file() of another host made. Pure. */
enum image_id image_id_reach(const char *id);

#endif
