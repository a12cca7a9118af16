// SPDX-License-Identifier: BSD-3-Clause
// The machine and the versions that a result is of. Run once, before anything is timed.

#include "about.h"

#include <isa-l.h>
#include <lz4.h>
#include <openssl/crypto.h>
#include <rte_version.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <zstd.h>

// The value of the first line "NAME : VALUE" of a file in /proc, without what JSON would escape.
static const char *field(const char *path, const char *name, char *text, int bytes)
{
	FILE *f = fopen(path, "re");
	char line[256], *value;

	text[0] = '\0';
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, name, strlen(name)) != 0 || (value = strchr(line, ':')) == NULL)
			continue;
		value += 1 + strspn(value + 1, " \t");
		value[strcspn(value, "\n\"\\")] = '\0';
		snprintf(text, (size_t)bytes, "%s", value);
		break;
	}
	if (f != NULL)
		fclose(f);
	return text;
}

void about_print(FILE *out)
{
	const double gib = (double)(1 << 30);
	double memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
	const char *dpdk = strrchr(rte_version(), ' '); // "DPDK 22.11.11"
	struct utsname kernel;
	char cpu[128];

	if (uname(&kernel) != 0)
		kernel.release[0] = '\0';
	fprintf(out,
		"\"machine\": {\"cpu\": \"%s\", \"cpus\": %ld, \"memory_gib\": %.0f, "
		"\"kernel\": \"%s\", \"godwit\": \"%s\", \"libraries\": {\"libdpdk\": \"%s\", "
		"\"libisal\": \"%d.%d.%d\", \"libzstd\": \"%s\", \"liblz4\": \"%s\", "
		"\"libcrypto\": \"%s\"}}",
		field("/proc/cpuinfo", "model name", cpu, sizeof(cpu)),
		sysconf(_SC_NPROCESSORS_ONLN), memory / gib, kernel.release, GODWIT_VERSION,
		dpdk != NULL ? dpdk + 1 : "", ISAL_MAJOR_VERSION, ISAL_MINOR_VERSION,
		ISAL_PATCH_VERSION, ZSTD_versionString(), LZ4_versionString(),
		OpenSSL_version(OPENSSL_VERSION_STRING));
}
