/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory that stages work on. */
#ifndef GODWIT_BENCH_MEMORY_H
#define GODWIT_BENCH_MEMORY_H

#include "stage.h"

/* Makes b->image with b->content, populated. 0 or -errno. */
int bench_image(struct bench *b, uint64_t bytes, bool huge);
/* What the image is of, in a word: its class, "file" or "process". */
const char *bench_content(const struct bench *b);
/* Writes the image again. 0 or -errno. */
int bench_fill(struct bench *b);
/* Fills a file, a guest's RAM, as large as it is, with b's image. 0 or -errno; -EINVAL: no page. */
int bench_file(const struct bench *b, const char *path);
void bench_free(struct bench *b);

#endif
